// The search of this site runs in a web worker, which browsers do not start from file:// pages.
// On such a page, run the worker's script in an iframe instead. As between real workers, messages
// are copies and arrive later: the page does not expect an answer while it still asks.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      this.scope = frame.contentWindow;
      this.scope.postMessage = (data) => this.answer(data);
      const script = this.scope.document.createElement("script");
      script.src = new URL(url, location.href).href;
      script.onload = () => this.start();
      this.scope.document.head.append(script);
    }

    answer(data) {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      setTimeout(() => {
        this.dispatchEvent(event);
        this.onmessage?.(event);
      });
    }

    start() {
      for (const data of this.waiting) this.deliver(data);
      this.waiting = null;
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.deliver(data);
    }

    deliver(data) {
      const event = new this.scope.MessageEvent("message", { data: structuredClone(data) });
      setTimeout(() => this.scope.dispatchEvent(event));
    }

    terminate() {
      this.scope.frameElement?.remove();
    }
  };
}
