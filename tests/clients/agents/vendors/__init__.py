"""Model APIs as strict as the vendors: each checks a request, reads what a script needs of it, and writes
an answer in its own protocol."""

from .anthropic_messages import AnthropicMessages
from .bedrock_converse import BedrockConverse
from .cohere_chat import CohereChat
from .gemini import Gemini
from .ollama_chat import OllamaChat
from .openai_chat import OpenaiChat
from .openai_responses import OpenaiResponses
from .shared import Strict

WIRES = {
    "anthropic-messages": AnthropicMessages(),
    "bedrock-converse": BedrockConverse(),
    "cohere-chat": CohereChat(),
    "gemini": Gemini(),
    "ollama-chat": OllamaChat(),
    "openai-chat": OpenaiChat(),
    "openai-responses": OpenaiResponses(),
}
