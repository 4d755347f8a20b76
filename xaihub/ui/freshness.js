// Whether the answer that is shown is of what the boxes say now. The server says of each answer what it was asked about,
// the boxes say what they hold, and both are compared here, so that a change is marked at once and without a request.
(() => {
  let asked = null; // name -> what the answer was asked about; null where there is no answer
  let latest = "";

  const plain = (value) => {
    if (value === null || value === undefined) return "";
    if (Array.isArray(value)) return value.map(plain).join("|");
    const text = String(typeof value === "object" ? (value.path ?? "") : value).trim();
    return text.startsWith("/") ? text.split("/").slice(-2).join("/") : text; // a file's folder has no other file
  };

  const held = (names, values) => {
    const now = {};
    let place = 0;
    for (const [name, count] of names) {
      const [first, ...more] = values.slice(place, (place += count)).map(plain);
      now[name] = first === "" ? "" : [first, ...more].join(" ");
    }
    return now;
  };

  // names: [name, how many boxes, whether a change of it is answered unasked] each; the last value is the server's.
  window.xaihubFresh = (names, subject, verb, values) => {
    const said = values.at(-1) ?? "";
    if (said !== latest) {
      latest = said;
      asked = said ? { ...asked, ...JSON.parse(said).about } : null;
    }
    const now = held(names, values);
    const stale = names.filter(([name]) => asked && name in asked && asked[name] !== now[name]);
    if (!stale.length) return "";
    const told = stale.map(([name]) => name).join(", ").replace(/, ([^,]*)$/, " and $1");
    const next = stale.every(([, , unasked]) => unasked) ? "" : ` Press ${verb} to ask about what the boxes say now.`;
    return `<p class="xh-stale" role="status">${subject} for the previous ${told}.${next}</p>`;
  };
})();
