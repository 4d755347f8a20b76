// No answer is lost on its way. gradio's server closes a visitor's stream of answers when it knows of no other question,
// and gradio's client believes it open until it is told. To a question that is asked in between no answer ever comes:
// the server waits for a new stream, the client for the old one. So that word is held back here while a question is
// unanswered, and the old stream goes on with what a new one brings. Of an answer that comes before the server has told
// which question it is to, the client loses the steps but the last: so the stream waits while a question is on its way.
(() => {
  const fetched = window.fetch.bind(window);
  const asking = new Set(); // a promise for each question on its way to the server
  const unanswered = new Set(); // ids of questions that the server has taken

  // As setTimeout, which browsers hold up for a second in a page that is not looked at.
  const soon = (then) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = then;
    port2.postMessage(null);
  };

  // `json` is how gradio's client reads what it is told of its question; it listens for the answer right after that.
  const ask = async (given) => {
    let known;
    const heard = new Promise((resolve) => (known = resolve));
    asking.add(heard);
    const done = () => soon(() => known(asking.delete(heard)));
    try {
      const response = await fetched(...given);
      const body = response.json();
      body.then(({ event_id: id }) => id && unanswered.add(id)).catch(() => {}); // what is refused has no id
      response.json = () => body.finally(done);
      return response;
    } catch (error) {
      done();
      throw error;
    }
  };

  async function* messages(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    try {
      for (let rest = "", end = false; !end; ) {
        const { done, value } = await reader.read();
        const parts = (rest + decoder.decode(value, { stream: !done })).split("\n\n");
        [rest, end] = [parts.pop(), done];
        yield* parts;
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  // only short messages and those that end an answer are read here: maps are long
  const told = (message) => {
    if (message.length > 1000 && !message.includes('"process_completed"')) return {};
    try {
      return JSON.parse(message.slice("data: ".length));
    } catch {
      return {}; // for the client to complain of
    }
  };

  async function* answers(request, response) {
    let last = "";
    for await (const message of messages(response)) {
      await Promise.all(asking);
      const { msg, event_id: id } = told(message);
      if (msg === "process_completed") unanswered.delete(id);
      if (msg !== "close_stream") yield message;
      else last = message;
    }
    await Promise.all(asking);
    if (!last) return unanswered.clear(); // the connection broke, which the client says of each
    if (!unanswered.size) return yield last;
    const next = await fetched(request.clone());
    if (!next.ok) throw new Error(`The stream of answers could not be opened again: ${next.status}`);
    yield* answers(request, next);
  }

  const listen = async (request) => {
    const response = await fetched(request.clone());
    if (!response.ok || !response.body) return response;
    const [given, encoder] = [answers(request, response), new TextEncoder()];
    const pull = async (stream) => {
      const { done, value } = await given.next().catch((error) => {
        unanswered.clear();
        throw error;
      });
      return done ? stream.close() : stream.enqueue(encoder.encode(`${value}\n\n`));
    };
    const body = new ReadableStream({ pull, cancel: () => given.return() });
    return new Response(body, { status: response.status, headers: response.headers });
  };

  window.fetch = (...given) => {
    const path = new URL(given[0].url ?? given[0], document.baseURI).pathname;
    if (path.endsWith("/queue/join")) return ask(given);
    return path.endsWith("/queue/data") ? listen(new Request(...given)) : fetched(...given);
  };
})();
