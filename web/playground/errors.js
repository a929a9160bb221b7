// What an error means for the person at the screen, and whether asking again can help.

const MEANINGS = {
  invalid_request: ["The request is not valid", "Something in the question or in the settings is not accepted. The message says what."],
  unauthenticated: ["This gateway needs an API key", "Enter a key in the settings, then try again."],
  forbidden: ["This key may not use this model", "Choose another model, or enter another key in the settings."],
  not_found: ["There is no such model or stream", "Choose a model from the list. The link of an answer works only while the gateway keeps the answer."],
  gone: ["The gateway no longer keeps this answer", "It keeps an answer for a short time (resume.window in its config). Ask again."],
  payload_too_large: ["The question is too large", "Attach fewer or smaller images, or start a new chat."],
  rate_limited: ["You have reached a limit of this gateway", "Wait for the time that it names, then try again."],
  overloaded: ["The gateway is full", "It has as many open answers as it may have. Try again in a moment."],
  draining: ["This replica of the gateway is shutting down", "Try again: another replica answers."],
  upstream_rejected: ["The model's provider refused the request", "Its own message follows. Often the model lacks what was asked of it: images, an effort, so many tokens."],
  upstream_rate_limited: ["The model's provider has no capacity for this gateway", "Every provider that the gateway asked said: too many requests. Wait, then try again."],
  upstream_auth: ["The provider refused the gateway's own credentials", "Only the operator of the gateway can mend this."],
  upstream_unavailable: ["The model's provider cannot be reached", "It is down, or the network to it is. Try again, or choose another model."],
  upstream_timeout: ["The model did not begin to answer in time", "Try again, or choose another model."],
  upstream_error: ["The provider reported a failure", "What came before it is kept. Try again."],
  bad_upstream_data: ["The provider sent something that is no answer", "What came before it is kept. Try again, or choose another model."],
  stream_interrupted: ["The answer broke off", "The connection to the model ended before the answer did. What came before is kept."],
  stream_stalled: ["The model stopped in the middle", "It sent nothing more for a long time. What came before is kept."],
  stream_too_long: ["The answer took too long", "It reached the time limit of the gateway. What came before is kept."],
  unreachable: ["The gateway cannot be reached", "Check the network, and that the gateway runs. Then try again."],
  not_the_gateway: ["Something else than the gateway answered", "Is there a proxy in between?"],
  left: ["The answer was lost", "The page was left before the gateway had accepted the question. Ask again."],
};
const UNKNOWN = ["The answer ended in an error", "What came before it is kept."];

/** `{ title, meaning, message, details, wait }` of an error event or a refusal. */
export function explain(error) {
  const [title, meaning] = MEANINGS[error.code] ?? UNKNOWN;
  const details = [
    error.code,
    error.status && `status ${error.status}`,
    error.origin && `origin: ${error.origin}`,
    error.request_id && `request ${error.request_id}`,
  ];
  return { title, meaning, message: error.message, details: details.filter(Boolean).join(" · "), wait: Number(error.retry_after) || 0 };
}

const ENDINGS = {
  length: "The answer reached the largest number of tokens and was cut. Raise it in the settings, or ask to go on.",
  content_filter: "A filter of the provider stopped the answer.",
  refusal: "The model refused to answer.",
  cancelled: "Stopped.",
  pause: "The model paused. Ask it to go on.",
  other: "The answer ended for a reason that the provider did not name.",
};

/** A sentence about how an answer ended; empty where it ended as usual. */
export const describeEnd = (reason) => ENDINGS[reason] ?? "";
