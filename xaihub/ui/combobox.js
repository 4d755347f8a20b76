// An editable combobox with a list (WAI-ARIA Authoring Practices, "list autocomplete with manual selection"). What is
// typed counts as it is: suggestions are added below and never replace it. Late answers to an earlier text are dropped.
const PAUSE = 250; // ms without a key before the server is asked: a word typed quickly is one question
const FEWEST = 2; // letters
const [title, input, toggle, popup, list, told] = ["label", "input", "button", ".xh-combo-popup", "[role=listbox]", "[role=status]"].map((part) => element.querySelector(part));
// settings, which stand before this text: choices, [words, value] each, whether the Hub is searched, and whether a text
// that fits one choice alone stands for it; the server may have given other choices since
const known = () => props.choices ?? settings.choices;
let options = []; // as the choices
let active = -1;
let question = 0; // the number of the latest one: answers to others are late
let timer = null;
let typed = false;
let chosen = null; // what the visitor chose here last; the answers to earlier choices may still be on their way

const wordsOf = (value) => known().find((choice) => choice[1] === value)?.[0] ?? value ?? "";
const matching = (text) => known().filter((choice) => choice.some((part) => part.toLowerCase().includes(text.toLowerCase())));

const valueOf = (text) => {
  const same = [...known(), ...options].find((choice) => choice.includes(text));
  if (same) return same[1];
  const fit = settings.completes && text ? matching(text) : [];
  return fit.length === 1 ? fit[0][1] : text;
};

const activate = (place) => {
  active = place;
  [...list.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === place)));
  const option = list.children[place];
  if (!option) return input.removeAttribute("aria-activedescendant");
  input.setAttribute("aria-activedescendant", option.id);
  // by hand: scrollIntoView would move the page as well
  if (option.offsetTop < list.scrollTop) list.scrollTop = option.offsetTop;
  const below = option.offsetTop + option.offsetHeight - list.clientHeight;
  if (below > list.scrollTop) list.scrollTop = below;
};

const draw = (choices, words) => {
  const chosen = options[active]?.[1];
  options = choices;
  list.replaceChildren(
    ...options.map(([label, value], i) => {
      const option = document.createElement("li");
      option.id = `${list.id}-${i}`;
      option.setAttribute("role", "option");
      option.dataset.value = value;
      option.textContent = label; // never HTML: names come from strangers
      return option;
    }),
  );
  activate(options.findIndex((choice) => choice[1] === chosen));
  told.textContent = words;
};

const close = () => {
  question++;
  clearTimeout(timer);
  popup.hidden = true;
  input.setAttribute("aria-expanded", "false");
  activate(-1);
};

const counted = (count) => (count ? `${count} suggestion${count === 1 ? "" : "s"}` : "No suggestion. What is typed counts as it is.");

const search = async (text, mine) => {
  const answer = await server.suggest(text).catch(() => null);
  if (mine !== question) return;
  const failed = Array.isArray(answer) ? "" : " The search did not answer."; // gradio gives nothing where it failed
  const found = Array.isArray(answer) ? answer : [];
  const here = matching(text);
  const there = new Set(here.map((choice) => choice[1]));
  const all = [...here, ...found.filter((choice) => !there.has(choice[1]))];
  draw(all, counted(all.length) + failed);
};

const open = (text) => {
  const mine = ++question;
  clearTimeout(timer);
  const searches = settings.searches && text.trim().length >= FEWEST;
  const here = text ? matching(text.trim()) : known();
  draw(here, searches ? "Searching the Hub…" : counted(here.length));
  popup.hidden = false;
  input.setAttribute("aria-expanded", "true");
  if (searches) timer = setTimeout(() => search(text.trim(), mine), PAUSE);
};

const show = () => {
  typed = false;
  const words = wordsOf(props.value);
  if (input.value === words) return;
  const all = input.selectionStart === 0 && input.selectionEnd === input.value.length;
  input.value = words;
  if (all && document.activeElement === input) input.select(); // what is typed next still replaces it
};

const commit = (value) => {
  close();
  const changed = value !== (props.value ?? "");
  const asks = changed || value !== (chosen ?? value);
  chosen = value;
  if (changed) props.value = value;
  show();
  if (asks) trigger("input");
};

const choose = () => {
  if (active >= 0) return commit(options[active][1]);
  if (typed) return commit(valueOf(input.value.trim()));
  close();
  show();
};

const step = (by) => {
  if (popup.hidden) open(typed ? input.value : "");
  if (options.length) activate(active < 0 ? (by > 0 ? 0 : options.length - 1) : (active + by + options.length) % options.length);
};

input.addEventListener("input", () => {
  typed = true;
  activate(-1);
  open(input.value);
});
input.addEventListener("keydown", (event) => {
  if (event.isComposing) return; // the keys belong to an input method
  if (event.key === "ArrowDown" || event.key === "ArrowUp") step(event.key === "ArrowDown" ? 1 : -1);
  else if (event.key === "Enter") choose();
  else if (event.key === "Escape" && !popup.hidden) close();
  else if (event.key === "Escape") show();
  else return;
  event.preventDefault();
});
input.addEventListener("click", () => {
  if (!popup.hidden) return; // a second press places the caret
  if (!typed) input.select(); // what is typed now replaces the model that was chosen
  open(typed ? input.value : "");
});
input.addEventListener("focus", () => input.select());
input.addEventListener("blur", () => {
  activate(-1);
  choose();
});
// a press must not take the focus from the text, or its list would be gone before it is let go
popup.addEventListener("mousedown", (event) => event.preventDefault());
toggle.addEventListener("mousedown", (event) => event.preventDefault());
toggle.addEventListener("click", () => {
  input.focus();
  if (popup.hidden) open("");
  else close();
});
list.addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option) commit(option.dataset.value);
});
watch(["value", "choices"], () => typed || show()); // what is being typed stays
const name = () => props.title && (title.textContent = props.title);
watch("title", name);
name();
show();
