// What every JavaScript client is told about the gateway under test.

/** The gateway, without a path. */
export const url = process.env.SLUICEGATE_URL;
/** A key that may use every model. */
export const key = process.env.SLUICEGATE_KEY;
/** A key that may use `openai-chat/text` alone. */
export const narrowKey = process.env.SLUICEGATE_NARROW_KEY;
/** Every wire that the gateway speaks. */
export const wires = process.env.SLUICEGATE_WIRES.split(",");

/** Waits until the gateway left the scripted upstream's answer of this `hold…` model. */
export async function left(model) {
  const answer = await fetch(`${process.env.SLUICEGATE_SCRIPTED_URL}/left/${model}`);
  return answer.status === 204;
}
