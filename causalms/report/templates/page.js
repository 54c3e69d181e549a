"use strict";
// Without this script every row of details is open and every table readable; it only adds sorting, folding and copying.
document.documentElement.classList.add("js");

function setOpen(body, open) {
  body.classList.toggle("open", open);
  const button = body.querySelector(".toggle button");
  button.setAttribute("aria-expanded", String(open));
  button.firstElementChild.textContent = open ? "−" : "+";
}

function keyOf(item, head) {
  if (head.dataset.key) return item.getAttribute("data-" + head.dataset.key) || "";
  const cell = item.cells[Number(head.dataset.column)];
  return cell.hasAttribute("data-sort") ? cell.dataset.sort : cell.textContent;
}

function sortBy(table, head) {
  const rising = head.getAttribute("aria-sort") !== "ascending";
  const grouped = table.classList.contains("results");
  const items = Array.from(grouped ? table.tBodies : table.tBodies[0].rows);
  const numeric = "numeric" in head.dataset;
  const keyed = items.map((item) => [keyOf(item, head), item]);
  keyed.sort(([a], [b]) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true })) * (rising ? 1 : -1));
  const parent = grouped ? table : table.tBodies[0];
  parent.append(...keyed.map(([, item]) => item));
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

function fallbackCopy(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copy(button, text) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch (error) {
    done = fallbackCopy(text);
  }
  const label = button.textContent;
  button.textContent = done ? "Copied" : "Copying was refused";
  setTimeout(() => { button.textContent = label; }, 1500);
}

document.querySelectorAll("table.sortable thead th[data-key], table.sortable thead th[data-column]").forEach((head) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sortBy(head.closest("table"), head));
});

document.querySelectorAll(".toggle button").forEach((button) => {
  const body = button.closest("tbody");
  button.addEventListener("click", () => setOpen(body, !body.classList.contains("open")));
});

document.querySelectorAll(".openall").forEach((button) => {
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    button.closest(".tablebox").querySelectorAll("table.results > tbody").forEach((body) => setOpen(body, open));
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? "Close all" : "Open all";
  });
});

document.querySelectorAll("button.copy").forEach((button) => {
  button.addEventListener("click", () => {
    const commands = button.dataset.copies === "commands";
    copy(button, commands ? document.querySelector("pre.commands").textContent
      : JSON.parse(button.closest(".tablebox").querySelector("script.csv").textContent));
  });
});

// On a narrow screen the contents list starts folded, so that the first number is near the top; paper shows it whole.
const contents = document.querySelector("nav details");
if (window.matchMedia("(max-width: 76.5rem)").matches) contents.open = false;
window.addEventListener("beforeprint", () => {
  contents.open = true;
  for (const details of document.querySelectorAll(".long")) details.open = true;
});

// Effects computed again: recompute.js stands before this script where a report carries patients.
const digits = (value) => (Number.isFinite(value) ? Number(value.toPrecision(6)).toString() : String(value));
const relative = (found, reported) => (found === reported ? 0 : Math.abs(found - reported) / Math.max(Math.abs(reported), 1e-300));

document.querySelectorAll(".recompute").forEach((box) => {
  const parts = JSON.parse(box.querySelector("script.patients").textContent);
  const said = box.querySelector(".said");
  box.querySelector("button.again").addEventListener("click", () => {
    const begin = performance.now();
    const again = parts.map(recompute);
    let [worst, rows] = [0, 0];
    box.querySelectorAll("tr[data-part]").forEach((line) => {
      const part = Number(line.dataset.part);
      const reported = parts[part].rows[Number(line.dataset.row)];
      const found = again[part][reported.index];
      const names = ["estimate", "se", "lower", "upper", "p_value"].filter((name) => name in reported);
      const difference = Math.max(...names.map((name) => relative(found[name], reported[name])));
      line.querySelector(".again-estimate").textContent = digits(found.estimate);
      line.querySelector(".again-interval").textContent = "lower" in reported ? `${digits(found.lower)} to ${digits(found.upper)}` : "";
      line.querySelector(".again-p").textContent = "p_value" in reported ? found.p_value.toPrecision(3) : "";
      line.querySelector(".difference").textContent = difference.toExponential(1);
      line.querySelector(".difference").classList.toggle("differs", !(difference < 1e-9));
      [worst, rows] = [difference > worst || Number.isNaN(difference) ? difference : worst, rows + 1];
    });
    const verdict = worst < 1e-9 ? "all agree to 1e-9" : "they do not agree";
    said.textContent = `${rows} ${rows === 1 ? "row" : "rows"} computed again in ${Math.ceil(performance.now() - begin)} ms: ${verdict}; `
      + `largest relative difference of any number ${worst.toExponential(1)}.`;
  });
});
