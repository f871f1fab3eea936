// Browsers refuse workers to pages that were opened as files, and the search is one: there it runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      this.inside = inside;
      inside.postMessage = (data) => this.onmessage?.(new MessageEvent("message", { data }));
      this.ready = new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.onload = resolve;
        script.onerror = reject;
        script.src = new URL(address, location.href);
        inside.document.body.append(script);
      });
      this.ready.catch((event) => this.onerror?.(event));
    }
    addEventListener(name, listener) {
      this[`on${name}`] = listener;
    }
    removeEventListener(name) {
      this[`on${name}`] = null;
    }
    postMessage(data) {
      this.ready.then(() => this.inside.onmessage?.(new MessageEvent("message", { data })));
    }
    terminate() {
      this.inside.frameElement.remove();
    }
  };
}
