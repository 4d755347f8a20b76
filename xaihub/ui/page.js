// What needs no server: how heatmaps are shown, a card beside the visitor's picture, and the link to what is asked.
(() => {
  // One choice for the whole page; what is drawn later follows it.
  const shown = { heat: "55", sign: "for", colours: "viridis" };

  const show = () => {
    const set = (name, value) => document.documentElement.style.setProperty(name, value);
    set("--heat", shown.heat / 100);
    set("--xh-for", shown.sign === "both" ? "none" : "block");
    set("--xh-both", shown.sign === "both" ? "block" : "none");
    set("--xh-colours", shown.colours === "viridis" ? "none" : `url(#xh-${shown.colours})`);
    for (const colours of ["viridis", "inferno", "cividis", "grey"]) set(`--xh-in-${colours}`, colours === shown.colours ? "inline" : "none");
  };

  const follow = () => {
    for (const slider of document.querySelectorAll(".xh-opacity")) {
      if (slider.value !== shown.heat) slider.value = shown.heat;
      const said = `${shown.heat}%`;
      if (slider.nextElementSibling.value !== said) slider.nextElementSibling.value = said;
    }
    for (const select of document.querySelectorAll(".xh-colours")) if (select.value !== shown.colours) select.value = shown.colours;
    for (const radio of document.querySelectorAll(".xh-sign")) if (radio.checked !== (radio.value === shown.sign)) radio.checked = radio.value === shown.sign;
  };

  document.addEventListener("input", (event) => {
    const tool = event.target;
    if (tool.matches?.(".xh-opacity")) shown.heat = tool.value;
    else if (tool.matches?.(".xh-colours")) shown.colours = tool.value;
    else if (tool.matches?.(".xh-sign")) shown.sign = tool.value;
    else return;
    show();
    follow();
  });

  const begin = () => {
    show();
    new MutationObserver(() => {
      follow();
      for (const link of document.querySelectorAll(".nav-holder a")) {
        const here = link.classList.contains("active");
        if (here !== link.hasAttribute("aria-current")) here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
      }
    }).observe(document.body, { childList: true, subtree: true });
  };
  // gradio adds this script when the page has been read, so the event may be over
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);

  const fill = (figure, stack, caption) => {
    figure.querySelector(".xh-stack")?.remove();
    figure.prepend(stack.cloneNode(true));
    figure.querySelector("figcaption").textContent = caption;
  };

  const show_pair = (pair) => {
    const dialog = document.querySelector(".xh-dialog");
    const maps = pair.dataset.pair.split(" ").map((map) => document.querySelector(`[data-map="${map}"] .xh-card`));
    if (!dialog || !maps.every(Boolean)) return;
    for (const [side, card] of [[".xh-mine", maps[0]], [".xh-theirs", maps[1]]]) {
      fill(dialog.querySelector(side), card.querySelector(".xh-stack"), `${card.dataset.title}. ${card.querySelector(".xh-caption").textContent}`);
    }
    dialog.querySelector("h3").textContent = `Two maps side by side; rank correlation ${pair.textContent}`;
    dialog.showModal();
  };

  // The visitor's picture as a card wants it: with its own boxes over it, and its own map in place of the large one.
  const beside = (card, main) => {
    const mine = main.querySelector(".xh-stack").cloneNode(true);
    const caption = `Your picture. ${main.querySelector("figcaption").textContent.trim()}`;
    const here = card.querySelector("template.xh-here");
    if (!here) return [mine, caption];
    const own = "own" in here.dataset;
    if (own) {
      for (const heat of mine.querySelectorAll(".xh-heat")) heat.remove();
      mine.classList.toggle("xh-signed", Boolean(here.dataset.signed));
    }
    mine.append(here.content.cloneNode(true));
    const picture = mine.querySelector("img");
    picture.alt = own ? here.dataset.described : `${picture.alt} ${here.dataset.described}`;
    return [mine, own ? here.dataset.says : caption];
  };

  const open = (card) => {
    const dialog = document.querySelector(".xh-dialog");
    const main = document.querySelector(".xh-main");
    if (!dialog || !main) return;
    const [mine, says] = beside(card, main);
    fill(dialog.querySelector(".xh-mine"), mine, says);
    fill(dialog.querySelector(".xh-theirs"), card.querySelector(".xh-stack"), card.querySelector(".xh-caption").textContent);
    dialog.querySelector("h3").textContent = `${card.dataset.title}, beside your picture`;
    const words = dialog.querySelector(".xh-words");
    words.dataset.usual ??= words.textContent;
    words.textContent = card.dataset.words ?? words.dataset.usual;
    dialog.showModal();
  };

  document.addEventListener("click", (event) => {
    const card = event.target.closest?.(".xh-card");
    if (card) open(card);
    const pair = event.target.closest?.("[data-pair]");
    if (pair) show_pair(pair);
    const dialog = event.target.closest?.(".xh-dialog");
    // the dialog itself is hit only outside of its content: on the backdrop
    if (dialog && (event.target.closest(".xh-close") || event.target === dialog)) dialog.close();
  });

  // A link brings an example along, but no picture of one's own.
  const example = (picture) => {
    const file = (picture?.path ?? "").split("/").slice(-2).join("/");
    return document.querySelector(`#xh-examples button[data-file="${CSS.escape(file)}"]`) && file.split("/")[1];
  };

  const link = (asked, picture) => {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries({ ...asked, example: example(picture) })) if (value) query.set(name, value);
    const address = `${location.origin}${location.pathname}?${query}`;
    const said = document.createElement("span");
    said.textContent = `Link: ${address}`;
    navigator.clipboard?.writeText(address).catch(() => {});
    return `<p class="xh-note" role="status">${said.innerHTML}</p>`;
  };

  window.xaihubLink = (picture, model, target, against, method, layer, references) =>
    link({ model, class: target, against, method, layer, references }, picture);

  window.xaihubCompareLink = (picture, model, vary, other, methods, method, classes, target) => {
    if (vary === "methods") return link({ model, vary, methods: methods.join("|"), class: target }, picture);
    if (vary === "classes") return link({ model, vary, method, classes: classes.join("|") }, picture);
    return link({ model, vary, with: other, method, class: target }, picture);
  };
})();

// Layers: the slider moves the points, the arrow keys go from one to the next, hover shows a picture, a click opens it.
(() => {
  const NEAR = 20; // pixels, about a fingertip's radius
  const chosen = { depth: null, by: null };
  let peeked = null;

  const rowOf = (dot) => dot.closest(".xh-space").querySelector(`.xh-pictures tr[data-row="${dot.dataset.row}"]`);

  const step = (space, depth) => {
    for (const dot of space.querySelectorAll("[data-at]")) dot.setAttribute("transform", `translate(${dot.dataset.at.split(";")[depth]})`);
    for (const row of space.querySelectorAll("[data-like]")) row.querySelector(".xh-like").textContent = row.dataset.like.split(";")[depth];
    for (const line of space.querySelectorAll(".xh-at")) line.hidden = Number(line.dataset.layer) !== depth;
    for (const mark of space.querySelectorAll(".xh-step, .xh-table tr[data-layer]")) mark.classList.toggle("xh-here", Number(mark.dataset.layer) === depth);
    const slider = space.querySelector(".xh-depth");
    slider.value = depth;
    slider.setAttribute("aria-valuetext", space.querySelector(`.xh-at[data-layer="${depth}"]`).dataset.name);
    slider.nextElementSibling.value = `${depth + 1} of ${Number(slider.max) + 1}`;
  };

  // A new answer, or another projection: the layer and the colours stay as they were chosen, if there are such.
  const settle = (space) => {
    space.dataset.settled = "";
    const most = Number(space.querySelector(".xh-depth").max);
    step(space, chosen.depth !== null && chosen.depth <= most ? chosen.depth : most);
    if (!chosen.by) return;
    space.dataset.by = chosen.by;
    for (const radio of space.querySelectorAll(".xh-by")) radio.checked = radio.value === chosen.by;
  };

  // Points lie over each other: the one whose middle is nearest is meant.
  const nearest = (event) => {
    const plane = event.target.closest?.(".xh-plane");
    if (!plane) return null;
    let best = null;
    let least = NEAR;
    for (const dot of plane.querySelectorAll(".xh-dot")) {
      const { left, top, width, height } = dot.getBoundingClientRect();
      const away = Math.hypot(left + width / 2 - event.clientX, top + height / 2 - event.clientY);
      if (away < least) [best, least] = [dot, away];
    }
    return best;
  };

  const peek = (dot) => {
    unpeek();
    peeked = dot;
    dot.classList.add("xh-near");
    const box = dot.closest(".xh-stage-plane").querySelector(".xh-peek");
    const frame = box.parentElement.getBoundingClientRect();
    const place = dot.getBoundingClientRect();
    box.querySelector("img").src = rowOf(dot).querySelector("img").src;
    box.querySelector("span").textContent = dot.getAttribute("aria-label");
    box.hidden = false;
    const left = place.left - frame.left + place.width / 2 - box.offsetWidth / 2;
    box.style.left = `${Math.max(0, Math.min(left, frame.width - box.offsetWidth))}px`;
    const above = place.top - frame.top - box.offsetHeight - 6;
    box.style.top = `${above > -40 ? above : place.bottom - frame.top + 6}px`;
  };

  const unpeek = () => {
    for (const box of document.querySelectorAll(".xh-peek")) box.hidden = true;
    peeked?.classList.remove("xh-near");
    peeked = null;
  };

  const put = (figure, stack, caption) => {
    figure.querySelector(".xh-stack")?.remove();
    figure.prepend(stack);
    figure.querySelector("figcaption").textContent = caption;
  };

  const show = (title, mine, mineSays, theirs, theirsSays) => {
    const dialog = document.querySelector(".xh-layers-dialog");
    if (!dialog) return;
    put(dialog.querySelector(".xh-mine"), mine, mineSays);
    put(dialog.querySelector(".xh-theirs"), theirs, theirsSays);
    dialog.querySelector("h3").textContent = title;
    dialog.showModal();
  };

  const query = (heat) => {
    const stack = document.querySelector(".xh-stage .xh-stack").cloneNode(true);
    if (!heat) for (const map of stack.querySelectorAll(".xh-heat")) map.remove();
    return stack;
  };

  const openDot = (dot) => {
    const theirs = document.createElement("span");
    theirs.className = "xh-stack";
    const image = rowOf(dot).querySelector("img").cloneNode();
    image.alt = dot.getAttribute("aria-label");
    image.loading = "eager";
    theirs.style.aspectRatio = `${image.naturalWidth || 1}/${image.naturalHeight || 1}`;
    theirs.append(image);
    const like = rowOf(dot).querySelector(".xh-like").textContent;
    show(dot.getAttribute("aria-label"), query(false), "What the model saw of your picture.", theirs, `Cosine to your picture at this layer: ${like}.`);
  };

  document.addEventListener("input", (event) => {
    const space = event.target.closest?.(".xh-space");
    if (!space) return;
    if (event.target.matches(".xh-depth")) step(space, (chosen.depth = Number(event.target.value)));
    if (event.target.matches(".xh-by")) space.dataset.by = chosen.by = event.target.value;
  });

  document.addEventListener("click", (event) => {
    const stage = event.target.closest?.(".xh-stage");
    if (stage) show(stage.dataset.title, query(false), "What the model saw of your picture.", stage.querySelector(".xh-stack").cloneNode(true), stage.dataset.words);
    const dot = nearest(event);
    if (dot) openDot(dot);
    const mark = event.target.closest?.(".xh-step");
    if (mark) step(mark.closest(".xh-space"), (chosen.depth = Number(mark.dataset.layer)));
  });

  document.addEventListener("keydown", (event) => {
    const dot = event.target.closest?.(".xh-dot");
    if (!dot) return;
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (!by) return openDot(dot);
    const dots = [...dot.parentElement.querySelectorAll(".xh-dot")];
    const next = dots[(dots.indexOf(dot) + by + dots.length) % dots.length];
    dot.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  document.addEventListener("pointermove", (event) => {
    const dot = nearest(event);
    if (dot !== peeked) dot ? peek(dot) : unpeek();
  });

  document.addEventListener("focusin", (event) => {
    const dot = event.target.closest?.(".xh-dot");
    dot ? peek(dot) : unpeek();
  });

  // gradio puts this script into the head itself, on pages other than the first, once the page is there
  const watch = () =>
    new MutationObserver(() => {
      for (const space of document.querySelectorAll(".xh-space:not([data-settled])")) settle(space);
    }).observe(document.body, { childList: true, subtree: true });
  document.body ? watch() : document.addEventListener("DOMContentLoaded", watch);
})();
