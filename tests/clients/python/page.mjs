// What a snippet for browsers finds in a page: an `EventSource` that does not reconnect, and a `document`
// that prints.

globalThis.document = { body: { append: (text) => process.stdout.write(text) } };

globalThis.EventSource = class extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  readyState = 0;

  constructor(path) {
    super();
    this.#read(new URL(path, process.env.SLUICEGATE_URL));
  }

  close() {
    this.readyState = 2;
  }

  async #read(url) {
    const response = await fetch(url, { headers: { accept: "text/event-stream" } });
    // As in browsers: any other status, or 204, ends it for good.
    if (response.status !== 200) {
      this.readyState = 2;
      this.dispatchEvent(new Event("error"));
      return;
    }
    this.readyState = 1;
    let rest = "";
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + piece).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.match(/^data: (.*)$/m)?.[1];
        if (data && this.readyState === 1) {
          this.dispatchEvent(new MessageEvent(block.match(/^event: (.*)$/m)[1], { data }));
        }
      }
    }
    if (this.readyState === 1) throw new Error("the snippet did not close its EventSource");
  }
};
