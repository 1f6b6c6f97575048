"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("table");
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const body = document.createElement("tbody");
  const classes = {
    ok: "good", pending: "pending", failed: "bad", differs: "bad", "not-in-cluster": "bad", "no-file": "bad",
  };
  const isNumeric = data.columns.map((_, index) => data.rows.some((row) => typeof row[index] === "number"));

  function element(name, text) {
    const created = document.createElement(name);
    if (text !== undefined) created.textContent = text;
    return created;
  }

  function svg(name, attributes) {
    const created = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
    return created;
  }

  function chart({ title, bars }) {
    const figure = element("figure");
    figure.append(element("figcaption", title));
    const most = Math.max(...bars.map(([, count]) => count));
    const description = bars.map(([label, count]) => `${label}: ${count}`).join(", ");
    const image = svg("svg", {
      width: 360, height: bars.length * 24, role: "img", "aria-label": `${title}: ${description}`,
    });
    bars.forEach(([label, count], index) => {
      const length = Math.max(2, Math.round((170 * count) / most));
      const name = svg("text", { x: 0, y: index * 24 + 16 });
      name.textContent = label;
      const number = svg("text", { x: 356, y: index * 24 + 16, "text-anchor": "end" });
      number.textContent = count;
      const bar = svg("rect", { x: 140, y: index * 24 + 4, width: length, height: 16 });
      bar.setAttribute("class", classes[label] ?? "");
      image.append(name, bar, number);
    });
    figure.append(image);
    return figure;
  }

  // Returns the first characters of each fingerprint or key identifier, as in the table for a terminal.
  function shortKeys(keys) {
    return keys.split(", ").map((key) => {
      const start = key.indexOf(":") + 1;
      return key.slice(0, start + 8);
    }).join(", ");
  }

  function cell(value, index) {
    const column = data.columns[index];
    const created = element("td", value === null ? "\u2013" : String(value));
    if (isNumeric[index]) created.className = "number";
    if (column === "State") created.className = classes[value] ?? "";
    if (column === "Keys" && value !== null) {
      created.textContent = shortKeys(value);
      created.title = value;
    }
    return created;
  }

  function row(values) {
    const created = element("tr");
    values.forEach((value, index) => created.append(cell(value, index)));
    const text = values.filter((value) => value !== null).join("\n").toLowerCase();
    return { values, text, element: created };
  }

  // Unknown values come last in both directions.
  function compare(a, b, direction) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    return direction * String(a).localeCompare(String(b), "en", { numeric: true });
  }

  const rows = data.rows.map(row);

  function applyFilter() {
    const wanted = filter.value.trim().toLowerCase();
    let count = 0;
    for (const { text, element } of rows) {
      element.hidden = !text.includes(wanted);
      if (!element.hidden) count += 1;
    }
    shown.textContent = `${count} of ${rows.length} rows`;
  }

  function sort(heading, index) {
    const isAscending = heading.getAttribute("aria-sort") === "ascending";
    const direction = isAscending ? -1 : 1;
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isAscending ? "descending" : "ascending");
    rows.sort((a, b) => compare(a.values[index], b.values[index], direction));
    body.append(...rows.map((one) => one.element));
  }

  function headings() {
    const head = element("thead");
    const line = element("tr");
    data.columns.forEach((column, index) => {
      const heading = element("th");
      heading.setAttribute("scope", "col");
      if (isNumeric[index]) heading.className = "number";
      const button = element("button", column);
      button.type = "button";
      button.addEventListener("click", () => sort(heading, index));
      heading.append(button);
      line.append(heading);
    });
    head.append(line);
    return head;
  }

  document.getElementById("charts").append(...data.charts.map(chart));
  for (const one of rows) body.append(one.element);
  table.append(headings(), body);
  filter.addEventListener("input", applyFilter);
  applyFilter();
})();
