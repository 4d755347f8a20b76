// What needs no server: the opacity of heatmaps, a card beside the visitor's picture, and the link to what is asked.
(() => {
  document.addEventListener("input", (event) => {
    const slider = event.target.closest?.(".xh-opacity");
    if (!slider) return;
    const scope = slider.closest(".xh-dialog") ?? document.querySelector("#xh-results");
    scope?.style.setProperty("--heat", slider.value / 100);
    slider.nextElementSibling.value = `${slider.value}%`;
  });

  const fill = (figure, stack, caption) => {
    figure.querySelector(".xh-stack")?.remove();
    figure.prepend(stack.cloneNode(true));
    figure.querySelector("figcaption").textContent = caption;
  };

  const open = (card) => {
    const dialog = card.closest("#xh-beside")?.querySelector(".xh-dialog");
    const main = document.querySelector("#xh-view .xh-main");
    if (!dialog || !main) return;
    fill(dialog.querySelector(".xh-mine"), main.querySelector(".xh-stack"), `Your picture. ${main.querySelector("figcaption").textContent.trim()}`);
    fill(dialog.querySelector(".xh-theirs"), card.querySelector(".xh-stack"), card.querySelector(".xh-caption").textContent);
    dialog.querySelector("h3").textContent = `${card.dataset.title}, beside your picture`;
    dialog.style.setProperty("--heat", dialog.querySelector(".xh-opacity").value / 100);
    dialog.showModal();
  };

  document.addEventListener("click", (event) => {
    const card = event.target.closest?.(".xh-card");
    if (card) open(card);
    const dialog = event.target.closest?.(".xh-dialog");
    // the dialog itself is hit only outside of its content: on the backdrop
    if (dialog && (event.target.closest(".xh-close") || event.target === dialog)) dialog.close();
  });

  window.xaihubLink = (model, target, method, references) => {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries({ model, class: target, method, references })) if (value) query.set(name, value);
    const address = `${location.origin}${location.pathname}?${query}`;
    const said = document.createElement("span");
    said.textContent = `Link: ${address}`;
    navigator.clipboard?.writeText(address).catch(() => {});
    return `<p class="xh-note" role="status">${said.innerHTML}</p>`;
  };
})();
