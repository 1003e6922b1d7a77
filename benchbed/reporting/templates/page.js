(() => {
  "use strict";
  const board = document.querySelector(".board");

  // Sorting: numbers by data-value, words by text; rows without a value stay last.
  for (const head of board?.tHead.rows[0].cells ?? []) {
    head.querySelector("button")?.addEventListener("click", () => {
      const first = head.dataset.first || "descending";
      const was = head.getAttribute("aria-sort");
      const way = was === null ? first : was === "ascending" ? "descending" : "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? "";
      const body = board.tBodies[0], sign = way === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => [value(row), row]);
      const words = rows.some(([v]) => v !== "" && Number.isNaN(Number(v)));
      rows.sort(([a], [b]) => (a === "") - (b === "") || sign * (words ? a.localeCompare(b) : a - b));
      body.append(...rows.map(([, row]) => row));
    });
  }

  // A table that fits needs no scrolling box of its own, and its head can stay in sight.
  const box = board?.parentElement;
  if (box) new ResizeObserver(() => {
    box.classList.remove("fits");
    box.classList.toggle("fits", box.scrollWidth <= box.clientWidth);
  }).observe(document.documentElement);

  // One cutoff at a time.
  const show = (cutoff) => {
    for (const cell of board.querySelectorAll("[data-cutoff]")) cell.hidden = cell.dataset.cutoff !== cutoff;
  };
  for (const choice of document.querySelectorAll("input[name=cutoff]")) {
    choice.addEventListener("change", () => show(choice.value));
    if (choice.checked) show(choice.value);
  }

  // A name in the legend lights up its lines.
  for (const button of document.querySelectorAll(".legend button")) {
    const light = (on) => {
      for (const figure of document.querySelectorAll("figure")) {
        figure.classList.toggle("lit", on);
        for (const line of figure.querySelectorAll(`[data-series="${button.dataset.of}"]`)) line.classList.toggle("on", on);
      }
    };
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => light(true));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => light(false));
  }
})();
