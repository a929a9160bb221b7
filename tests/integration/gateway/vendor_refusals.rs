//! Refusals in vendors' own words, and what the client gets.

use super::client::ClientRequest;
use super::harness::TestGateway;
use super::scripted::ScriptedUpstream;

/// A vendor's answer and what the client gets: status, code, words of the message (none of the
/// vendor's if only the operator is concerned) and `retry-after`.
struct Refused {
    preset: &'static str,
    status: u16,
    headers: &'static str,
    body: &'static str,
    gives: (u16, &'static str),
    says: &'static str,
    after: Option<&'static str>,
}

const fn refused(preset: &'static str, status: u16, body: &'static str) -> Refused {
    Refused {
        preset,
        status,
        headers: "",
        body,
        gives: (502, "upstream_auth"),
        says: "the gateway's credential or account",
        after: None,
    }
}

impl Refused {
    const fn with(self, headers: &'static str) -> Self {
        Self { headers, ..self }
    }

    const fn gives(self, status: u16, code: &'static str, says: &'static str) -> Self {
        let gives = (status, code);
        Self {
            gives,
            says,
            ..self
        }
    }

    const fn after(self, seconds: &'static str) -> Self {
        Self {
            after: Some(seconds),
            ..self
        }
    }
}

const REJECTED: &str = "upstream_rejected";
const LIMITED: &str = "upstream_rate_limited";
const UNAVAILABLE: &str = "upstream_unavailable";

/// For the operator: a refused key, an account without credit.
const ACCOUNT: &[Refused] = &[
    refused(
        "openai",
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-no***key. You can find your API key at https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
    ),
    refused(
        "azure",
        401,
        r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#,
    ),
    refused(
        "anthropic",
        401,
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_1"}"#,
    ),
    refused(
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
    ),
    refused(
        "anthropic",
        403,
        r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#,
    ),
    refused(
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#,
    ),
    refused(
        "bedrock",
        403,
        r#"{"message":"The security token included in the request is invalid."}"#,
    ),
    refused("cohere", 401, r#"{"id":"1","message":"invalid api token"}"#),
    refused("ollama", 401, r#"{"error":"unauthorized"}"#),
    refused("mistral", 401, r#"{"detail":"Unauthorized"}"#),
    refused(
        "deepseek",
        402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
    ),
    refused(
        "xai",
        400,
        r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: no***ey. You can obtain an API key from https://console.x.ai."}"#,
    ),
    refused(
        "openrouter",
        402,
        r#"{"error":{"message":"Insufficient credits","code":402}}"#,
    ),
];

/// For the client: the request itself, or the requested model.
const REQUEST: &[Refused] = &[
    refused("openai", 400, r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0.5 with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#)
        .gives(400, REJECTED, "Unsupported value: 'temperature'"),
    refused("openai", 404, r#"{"error":{"message":"The model `gpt-none` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#)
        .gives(404, REJECTED, "`gpt-none` does not exist"),
    refused("azure", 400, r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#)
        .gives(400, REJECTED, "content management policy"),
    refused("azure", 404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#)
        .gives(404, REJECTED, "deployment for this resource"),
    refused("anthropic", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: 200000 > 64000, which is the maximum allowed"}}"#)
        .gives(400, REJECTED, "max_tokens: 200000 > 64000"),
    refused("anthropic", 404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-none"}}"#)
        .gives(404, REJECTED, "model: claude-none"),
    refused("anthropic", 413, r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#)
        .gives(413, REJECTED, "exceeds the maximum size"),
    refused("gemini", 404, r#"[{"error":{"code":404,"message":"models/none is not found for API version v1beta","status":"NOT_FOUND"}}]"#)
        .gives(404, REJECTED, "models/none is not found"),
    refused("bedrock", 400, r#"{"message":"The provided model identifier is invalid."}"#)
        .with("x-amzn-errortype: ValidationException\r\n")
        .gives(400, REJECTED, "model identifier is invalid"),
    refused("cohere", 404, r#"{"id":"1","message":"model 'none' not found, make sure the correct model ID was used"}"#)
        .gives(404, REJECTED, "model 'none' not found"),
    refused("ollama", 404, r#"{"error":"model 'none' not found"}"#)
        .gives(404, REJECTED, "model 'none' not found"),
    refused("ollama", 400, r#"{"error":"registry.ollama.ai/library/tiny does not support tools"}"#)
        .gives(400, REJECTED, "does not support tools"),
    refused("mistral", 422, r#"{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","logit_bias"],"msg":"Extra inputs are not permitted","input":{}}]},"type":"invalid_request_error","param":null,"code":null}"#)
        .gives(422, REJECTED, "Extra inputs are not permitted"),
    refused("vllm", 400, r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#)
        .gives(400, REJECTED, "maximum context length is 4096"),
    refused("openrouter", 403, r#"{"error":{"message":"Input was flagged","code":403,"metadata":{"reasons":["violence"],"provider_name":"OpenAI"}}}"#)
        .gives(403, REJECTED, "Input was flagged"),
];

/// Temporary: rate limits, overload, outages. Waits are rounded up to seconds.
const WAIT: &[Refused] = &[
    refused("openai", 429, r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-a1B2c3D4e5F6g7H8 on requests per min (RPM).","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#)
        .with("retry-after-ms: 1250\r\nretry-after: 1\r\n")
        .gives(429, LIMITED, "in organization [redacted] on").after("2"),
    refused("openai", 429, r#"{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}"#)
        .with("x-ratelimit-remaining-requests: 5\r\nx-ratelimit-reset-requests: 9m0s\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m2.5s\r\n")
        .gives(429, LIMITED, "Rate limit reached").after("63"),
    refused("azure", 429, r#"{"error":{"code":"429","message":"Requests have exceeded the call rate limit. Please retry after 7 seconds."}}"#)
        .with("retry-after: 7\r\nretry-after-ms: 0\r\n")
        .gives(429, LIMITED, "exceeded the call rate limit").after("7"),
    refused("anthropic", 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}"#)
        .with("retry-after: 12\r\nanthropic-ratelimit-requests-reset: 2026-11-22T10:00:00Z\r\n")
        .gives(429, LIMITED, "would exceed your rate limit").after("12"),
    refused("gemini", 429, r#"{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.074824224s"}]}}"#)
        .gives(429, LIMITED, "exceeded your current quota").after("35"),
    refused("bedrock", 429, r#"{"message":"Too many requests, please wait before trying again."}"#)
        .gives(429, LIMITED, "Too many requests"),
    refused("cohere", 429, r#"{"id":"1","message":"You are using a Trial key, which is limited to 10 API calls / minute."}"#)
        .gives(429, LIMITED, "limited to 10 API calls"),
    refused("mistral", 429, r#"{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#)
        // A date in the past means now.
        .with("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        .gives(429, LIMITED, "rate limit exceeded").after("0"),
    refused("groq", 429, r#"{"error":{"message":"Rate limit reached for model","type":"tokens","code":"rate_limit_exceeded"}}"#)
        .with("retry-after: 7.66\r\n")
        .gives(429, LIMITED, "Rate limit reached").after("8"),
    refused("openrouter", 429, r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"tiny is temporarily rate-limited upstream","provider_name":"X"}}}"#)
        .gives(429, LIMITED, "Provider returned error: tiny is temporarily"),
    refused("openai", 500, r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#)
        .gives(502, UNAVAILABLE, "The server had an error"),
    refused("openai", 503, r#"{"error":{"message":"The engine is currently overloaded","type":"server_error"}}"#)
        .with("retry-after: 3\r\n")
        .gives(502, UNAVAILABLE, "engine is currently overloaded").after("3"),
    refused("anthropic", 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#)
        .gives(502, UNAVAILABLE, "Overloaded"),
    refused("gemini", 503, r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#)
        .gives(502, UNAVAILABLE, "The model is overloaded"),
    refused("bedrock", 408, r#"{"message":"The request took too long to process."}"#)
        .gives(502, UNAVAILABLE, "took too long"),
    refused("ollama", 503, r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#)
        .gives(502, UNAVAILABLE, "server busy"),
    refused("llamacpp", 503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#)
        .gives(502, UNAVAILABLE, "Loading model"),
    refused("openai", 502, "<html><body>502 Bad Gateway, nginx</body></html>")
        .gives(502, UNAVAILABLE, "the upstream answered 502"),
];

#[tokio::test]
async fn every_vendors_refusal_is_classified() {
    for refused in ACCOUNT.iter().chain(REQUEST).chain(WAIT) {
        let upstream = ScriptedUpstream::bind().await;
        let running = TestGateway::start(&format!(
            "upstreams: {{ a: {{ preset: {}, base_url: 'http://{}', api_key: own-key-4711 }} }}\n\
             models: {{ m: {{ targets: [ {{ upstream: a, model: x }} ], retry: off }} }}\n",
            refused.preset,
            upstream.addr()
        ));
        let answering = async {
            let mut exchange = upstream.request().await;
            exchange
                .answer(refused.status, refused.headers, refused.body)
                .await;
        };
        let asked = ClientRequest::prompt("m");
        let (mut answer, ()) = tokio::join!(running.ask(&asked), answering);
        let what = format!("{} {} {}", refused.preset, refused.status, refused.body);
        assert_eq!(answer.status(), refused.gives.0, "{what}");
        let after = answer
            .has("retry-after")
            .then(|| answer.header("retry-after").to_owned());
        assert_eq!(after.as_deref(), refused.after, "{what}");
        let error = answer.error().await;
        assert_eq!(error["code"], refused.gives.1, "{what}");
        assert_eq!(error["origin"], "upstream", "{what}");
        let retryable = [LIMITED, UNAVAILABLE].contains(&refused.gives.1);
        assert_eq!(error["retryable"], retryable, "{what}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(refused.says), "{what}: {message}");
    }
}
