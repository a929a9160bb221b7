"""Inputs in which one element repeats, for `bench/instructions.py`: twice as many elements may cost twice as
many instructions, and a bit.

An element's `@` is its number.
"""

import binascii
import struct

STREAMS = "/v1/streams"
DIALECTS = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/ui-messages"]
# The dialects that pass on frames of a wire.
OWN = {"openai-chat": "/v1/chat/completions", "anthropic-messages": "/v1/messages", "openai-responses": "/v1/responses"}
# How often elements repeat. An answer has at most 1,024 tool calls. Over TURNS, every element opens and closes a
# block. Between LONG bytes and twice as many, the C library grows a buffer in one way only.
MANY, CALLS, TURNS, LONG = 4_000, 500, 1_000, 2 << 20

CHAT_START = 'data: {"choices":[{"index":0,"delta":{'
CHAT_END = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
CHAT_LIST_END = "]}}]}\n\n" + CHAT_END
CHAT_CALL = '{"index":@,"id":"a@","function":{"name":"f","arguments":"{}"}}'
CHAT_CITATION = '{"type":"url_citation","url_citation":{"url":"http://a.example/@","title":"t","start_index":0,"end_index":1}}'
CLAUDE_END = ('data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
              'data: {"type":"message_stop"}\n\n')
CLAUDE_BLOCK = 'data: {"type":"content_block_start","index":@,"content_block":{"type":"text","text":"x"}}\n\n'
COHERE_END = 'data: {"type":"message-end","delta":{"finish_reason":"COMPLETE"}}\n\n'
COHERE_SOURCE = '{"type":"document","id":"doc:@","document":{"id":"doc:@","title":"m"}}'
COHERE_CITATION = 'data: {"type":"citation-start","index":@,"delta":{"message":{"citations":{"start":4,"end":9,"text":"t","sources":['
GEMINI_START, GEMINI_END = 'data: {"candidates":[{"content":{"parts":[', ']},"finishReason":"STOP"}]}\n\n'
GEMINI_CITATION = '{"startIndex":@,"endIndex":9,"uri":"http://a.example/@"}'
RESPONSES_LAST = 'data: {"type":"response.completed","response":{"status":"completed","output":['
RESPONSES_END = "]}}\n\n"
RESPONSES_TEXT = ('data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,'
                  '"delta":"x"}\n\n')

# Wire, what repeats, how often, and the answer: what comes before, the elements with what is between two, what
# comes after.
ANSWERS = [
    ("openai-chat", "calls in a frame", CALLS, CHAT_START + '"tool_calls":[', CHAT_CALL, ",", CHAT_LIST_END),
    ("openai-chat", "calls", CALLS, "", CHAT_START + '"tool_calls":[' + CHAT_CALL + "]}}]}\n\n", "", CHAT_END),
    ("openai-chat", "pieces of two calls", MANY,
     CHAT_START + '"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"[1"}},'
     '{"index":1,"id":"b","function":{"name":"f","arguments":"[1"}}]}}]}\n\n',
     CHAT_START + '"tool_calls":[{"index":0,"function":{"arguments":",1"}},'
     '{"index":1,"function":{"arguments":",1"}}]}}]}\n\n', "",
     CHAT_START + '"tool_calls":[{"index":0,"function":{"arguments":"]"}},'
     '{"index":1,"function":{"arguments":"]"}}]}}]}\n\n' + CHAT_END),
    ("openai-chat", "citations in a frame", MANY, CHAT_START + '"content":"x","annotations":[', CHAT_CITATION, ",",
     CHAT_LIST_END),
    ("openai-chat", "citations", MANY, "", CHAT_START + '"content":"x","annotations":[' + CHAT_CITATION + "]}}]}\n\n",
     "", CHAT_END),
    ("openai-chat", "choices", MANY, 'data: {"choices":[', '{"index":@,"delta":{"content":"x"}}', ",",
     "]}\n\n" + CHAT_END),
    ("openai-chat", "parts of a text", MANY, CHAT_START + '"content":[', '{"type":"text","text":"x"}', ",",
     CHAT_LIST_END),
    ("openai-chat", "texts and reasoning in turn", TURNS, "",
     CHAT_START + '"content":"x"}}]}\n\n' + CHAT_START + '"reasoning_content":"y"}}]}\n\n', "", CHAT_END),
    ("openai-chat", "unknown members", MANY, CHAT_START + '"content":"x"}}]', ',"k@":{"a":[0]}', "",
     "}\n\n" + CHAT_END),
    ("openai-chat", "lines of a frame", MANY, 'data: {"choices":[\n', "data:  \n", "",
     'data: {"index":0,"delta":{"content":"x"}}]}\n\n' + CHAT_END),
    ("openai-chat", "comments", MANY, CHAT_START + '"content":"x"}}]}\n\n', ": @\n", "", "\n" + CHAT_END),
    ("openai-chat", "half surrogates", MANY, CHAT_START + '"content":"', "\\ud800", "", '"}}]}\n\n' + CHAT_END),
    ("openai-chat", "a long line", LONG, CHAT_START + '"content":"', "x", "", '"}}]}\n\n' + CHAT_END),
    ("anthropic-messages", "blocks", MANY, "", CLAUDE_BLOCK + 'data: {"type":"content_block_stop","index":@}\n\n', "",
     CLAUDE_END),
    ("anthropic-messages", "open blocks", MANY, "", CLAUDE_BLOCK, "", CLAUDE_END),
    ("anthropic-messages", "calls", CALLS, "",
     'data: {"type":"content_block_start","index":@,"content_block":{"type":"tool_use","id":"a@","name":"f","input":{}}}'
     "\n\n", "", CLAUDE_END),
    ("anthropic-messages", "citations", MANY, CLAUDE_BLOCK.replace("@", "0"),
     'data: {"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{'
     '"type":"char_location","cited_text":"t@","document_index":0,"start_char_index":1,"end_char_index":2}}}\n\n', "",
     CLAUDE_END),
    ("anthropic-messages", "a long line", LONG,
     'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"', "x", "",
     '"}}\n\n' + CLAUDE_END),
    ("cohere-chat", "calls", CALLS, "",
     'data: {"type":"tool-call-start","index":@,"delta":{"message":{"tool_calls":{"id":"a@","type":"function",'
     '"function":{"name":"f","arguments":"{}"}}}}}\n\n', "", COHERE_END),
    ("cohere-chat", "citations", MANY, "", COHERE_CITATION + COHERE_SOURCE + "]}}}}\n\n", "", COHERE_END),
    ("cohere-chat", "sources of a citation", MANY, COHERE_CITATION.replace("@", "0"), COHERE_SOURCE, ",",
     "]}}}}\n\n" + COHERE_END),
    ("cohere-chat", "blocks", MANY, "",
     'data: {"type":"content-start","index":@,"delta":{"message":{"content":{"type":"text","text":"x"}}}}\n\n', "",
     COHERE_END),
    ("gemini", "calls in a frame", CALLS, GEMINI_START, '{"functionCall":{"id":"a@","name":"f","args":{}}}', ",",
     GEMINI_END),
    ("gemini", "calls", CALLS, "", GEMINI_START + '{"functionCall":{"name":"f","args":{}}}' + "]}}]}\n\n", "",
     GEMINI_START + GEMINI_END),
    ("gemini", "partial arguments", MANY,
     GEMINI_START + '{"functionCall":{"id":"a","name":"f","willContinue":true}}]}}]}\n\n',
     GEMINI_START + '{"functionCall":{"partialArgs":[{"jsonPath":"$.list[@].k","numberValue":1}],"willContinue":true}}'
     "]}}]}\n\n", "", GEMINI_START + '{"functionCall":{}}' + GEMINI_END),
    ("gemini", "parts", MANY, GEMINI_START, '{"text":"x"}', ",", GEMINI_END),
    ("gemini", "candidates", MANY, 'data: {"candidates":[', '{"content":{"parts":[{"text":"x"}]},"index":@}', ",",
     "]}\n\n" + GEMINI_START + GEMINI_END),
    ("gemini", "citations in a frame", MANY,
     'data: {"candidates":[{"content":{"parts":[{"text":"x"}]},"citationMetadata":{"citationSources":[', GEMINI_CITATION,
     ",", ']},"finishReason":"STOP"}]}\n\n'),
    ("gemini", "citations", MANY, "",
     'data: {"candidates":[{"content":{"parts":[{"text":"x"}]},"citationMetadata":{"citationSources":['
     + GEMINI_CITATION + "]}}]}\n\n", "", GEMINI_START + GEMINI_END),
    ("ollama-chat", "calls in a frame", CALLS, '{"message":{"content":"","tool_calls":[',
     '{"id":"a@","function":{"index":@,"name":"f","arguments":{}}}', ",",
     ']},"done":true,"done_reason":"stop"}\n'),
    ("ollama-chat", "calls", CALLS, "",
     '{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":false}\n', "",
     '{"message":{"content":""},"done":true,"done_reason":"stop"}\n'),
    ("ollama-chat", "a long line", LONG, '{"message":{"content":"', "x", "",
     '"},"done":true,"done_reason":"stop"}\n'),
    ("openai-responses", "calls", CALLS, "",
     'data: {"type":"response.output_item.added","output_index":@,"item":{"id":"f@","type":"function_call",'
     '"call_id":"a@","name":"f","arguments":""}}\n\ndata: {"type":"response.function_call_arguments.done",'
     '"item_id":"f@","output_index":@,"arguments":"{}"}\n\n', "", RESPONSES_LAST + RESPONSES_END),
    ("openai-responses", "calls in the last event", CALLS, RESPONSES_LAST,
     '{"id":"f@","type":"function_call","call_id":"a@","name":"f","arguments":"{}"}', ",", RESPONSES_END),
    ("openai-responses", "messages", MANY, "",
     'data: {"type":"response.output_item.added","output_index":@,"item":{"id":"m@","type":"message","content":[]}}\n\n'
     'data: {"type":"response.output_text.delta","item_id":"m@","output_index":@,"content_index":0,"delta":"x"}\n\n', "",
     RESPONSES_LAST + RESPONSES_END),
    ("openai-responses", "messages in the last event", MANY, RESPONSES_LAST,
     '{"id":"m@","type":"message","content":[{"type":"output_text","text":"x"}]}', ",", RESPONSES_END),
    ("openai-responses", "parts", MANY, "",
     'data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":@,"delta":"x"}\n\n', "",
     RESPONSES_LAST + RESPONSES_END),
    ("openai-responses", "citations", MANY, RESPONSES_TEXT,
     'data: {"type":"response.output_text.annotation.added","item_id":"m","output_index":0,"content_index":0,'
     '"annotation_index":@,"annotation":{"type":"url_citation","url":"http://a.example/@","title":"t","start_index":0,'
     '"end_index":1}}\n\n', "", RESPONSES_LAST + RESPONSES_END),
    # A line is a message here: its event and its payload.
    ("bedrock-converse", "calls", CALLS, "",
     'contentBlockStart {"contentBlockIndex":@,"start":{"toolUse":{"name":"f","toolUseId":"a@"}}}\n'
     'contentBlockDelta {"contentBlockIndex":@,"delta":{"toolUse":{"input":"{}"}}}\n'
     'contentBlockStop {"contentBlockIndex":@}\n', "", 'messageStop {"stopReason":"tool_use"}\nmetadata {}\n'),
    ("bedrock-converse", "blocks", MANY, "", 'contentBlockDelta {"contentBlockIndex":@,"delta":{"text":"x"}}\n', "",
     'messageStop {"stopReason":"end_turn"}\nmetadata {}\n'),
    ("bedrock-converse", "citations", MANY, "",
     'contentBlockDelta {"contentBlockIndex":0,"delta":{"citation":{"location":{"web":{"url":"http://a.example/@"}}}}}\n',
     "", 'messageStop {"stopReason":"end_turn"}\nmetadata {}\n'),
    ("bedrock-converse", "a long message", LONG, 'contentBlockDelta {"contentBlockIndex":0,"delta":{"text":"', "x",
     "", '"}}\nmessageStop {"stopReason":"end_turn"}\nmetadata {}\n'),
]

# The others refuse members that they do not know.
VENDORS = list(OWN.values())
CHAT_MESSAGE = '{"role":"user","content":"Hello"}'
CHAT_TOOL = '{"type":"function","function":{"name":"f@","parameters":{"type":"object"}}}'
# Path, the messages' member, a message, a tool.
REQUESTS = [
    (STREAMS, '"messages"', CHAT_MESSAGE, CHAT_TOOL),
    ("/v1/chat/completions", '"messages"', CHAT_MESSAGE, CHAT_TOOL),
    ("/v1/messages", '"max_tokens":9,"messages"', CHAT_MESSAGE, '{"name":"f@","input_schema":{"type":"object"}}'),
    ("/v1/responses", '"input"', CHAT_MESSAGE, '{"type":"function","name":"f@","parameters":{"type":"object"}}'),
    ("/v1/ui-messages", '"messages"', '{"id":"m@","role":"user","parts":[{"type":"text","text":"Hello"}]}', None),
]


def cases():
    """Each case: its name, how often its element repeats, the program's words with `{}` for the input's file, and the
    input for so many."""
    for wire, what, count, before, element, between, after in ANSWERS:
        def body(number, wire=wire, parts=(before, element, between, after)):
            text = repeat(number, *parts)
            return aws(text) if wire == "bedrock-converse" else text.encode()
        for path in [STREAMS, *DIALECTS] if wire == "openai-chat" else [STREAMS]:
            yield f"{wire} to {path}: {what}", count, ["answer", wire, path, "{}"], body
        if wire in OWN:
            yield f"{wire} to {OWN[wire]}, verbatim: {what}", count, ["answer", wire, OWN[wire], "{}", "verbatim"], body
    yield "bedrock-converse: headers of a message", 2 * MANY, ["answer", "bedrock-converse", STREAMS, "{}"], headers
    for path, member, message, tool in REQUESTS:
        start = f'{{"model":"m",{member}:['
        lists = [("messages", start, message, ",", "]}")]
        if tool:
            lists.append(("tools", start + message + '],"tools":[', tool, ",", "]}"))
        if path in VENDORS:
            lists.append(("unknown members", start + message + "]", ',"k@":{"a":[0]}', "", "}"))
        for what, *parts in lists:
            yield (f"request to {path}: {what}", 1_000, ["request", path, "{}"],
                   lambda number, parts=parts: repeat(number, *parts).encode())
    # An upstream's head has at most 100 headers.
    yield ("http: headers", 49, ["head", "{}"],
           lambda number: repeat(number, "HTTP/1.1 200 OK\r\n", "x-@: y\r\n", "", "\r\n").encode())
    yield "http: chunks", MANY, ["chunks", "{}"], lambda number: repeat(number, "", "1\r\nx\r\n", "", "0\r\n\r\n").encode()


def repeat(number, before, element, between, after):
    numbered = (element.replace("@", str(at)) for at in range(number)) if "@" in element else [element] * number
    return before + between.join(numbered) + after


def aws(text):
    """Lines of an event and its payload as an AWS event stream."""
    named = (line.split(" ", 1) for line in text.splitlines())
    return b"".join(message([(":event-type", name), (":message-type", "event")], payload) for name, payload in named)


def headers(number):
    many = [(":event-type", "contentBlockDelta"), (":message-type", "event")] + [(f"h{at}", "v") for at in range(number)]
    stop = aws('messageStop {"stopReason":"end_turn"}\nmetadata {}\n')
    return message(many, '{"contentBlockIndex":0,"delta":{"text":"x"}}') + stop


def message(headers, payload):
    block = b"".join(bytes([len(name)]) + name.encode() + b"\7" + struct.pack(">H", len(value)) + value.encode()
                     for name, value in headers)
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    content = prelude + struct.pack(">I", binascii.crc32(prelude)) + block + payload.encode()
    return content + struct.pack(">I", binascii.crc32(content))
