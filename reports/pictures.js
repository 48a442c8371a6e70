(() => {
  "use strict";
  const VIEWS = ["side", "slide", "flip", "diff"];

  /** Resolves to the picture at `src`, or to null where there is none. */
  const load = (src) =>
    new Promise((done) => {
      const picture = new Image();
      picture.onload = () => done(picture);
      picture.onerror = () => done(null);
      picture.src = src;
    });

  /** The whole picture of a link, where it still lies beside the report. */
  const whole = (link) => (link.getAttribute("href").startsWith("#") ? null : load(link.href));
  const small = (link) => link.querySelector("img");

  document.addEventListener("DOMContentLoaded", () => {
    const look = document.getElementById("look");
    const part = (selector) => look.querySelector(selector);
    const stage = part(".stage");
    const canvas = part("canvas");
    const range = part("input");
    const gain = part(".gain select");
    const panel = part(".panel");
    const [left, right] = stage.querySelectorAll("figure");
    let cell = null;
    let shown = [];
    let turn = 0;

    const cells = (row) =>
      [...row.querySelectorAll(".cell:not(.prompt)")].filter(
        (one) => !one.hidden && one.querySelector(".pic"),
      );
    const rows = () =>
      [...cell.closest(".rows").querySelectorAll(".row:not(.head)")].filter(
        (row) => !row.hidden && cells(row).length,
      );
    const alone = () => stage.classList.contains("lone");

    /** Draws |base − this| and doubles it as often as asked; pixels are never read back. */
    const difference = () => {
      if (stage.dataset.view !== "diff" || alone() || shown.length < 2) return;
      const [base, own] = shown;
      const [width, height] = [own.naturalWidth, own.naturalHeight];
      const pen = canvas.getContext("2d");
      Object.assign(canvas, { width, height });
      pen.drawImage(base, 0, 0, width, height);
      pen.globalCompositeOperation = "difference";
      pen.drawImage(own, 0, 0, width, height);
      pen.globalCompositeOperation = "lighter";
      for (let i = Number(gain.value); i > 0; i--) pen.drawImage(canvas, 0, 0);
    };

    const view = (name) => {
      look.dataset.view = stage.dataset.view = name;
      stage.dataset.shown = "b";
      for (const button of look.querySelectorAll("[data-view]:not(.stage)"))
        button.setAttribute("aria-pressed", String(button.dataset.view === name));
      difference();
    };
    const flip = () => {
      if (stage.dataset.view !== "flip") view("flip");
      stage.dataset.shown = stage.dataset.shown === "a" ? "b" : "a";
    };

    const put = (pictures) => {
      shown = pictures;
      right.querySelector("img").src = pictures.at(-1).src;
      if (!alone()) left.querySelector("img").src = pictures[0].src;
      difference();
    };

    /** What the page says about a cell, beside its picture. */
    const describe = () => {
      const row = cell.closest(".row");
      const copy = (from, selector) => {
        const found = from.querySelector(selector)?.cloneNode(true);
        found?.classList.remove("long");
        return found;
      };
      const titled = (title, node) => {
        if (!node?.textContent.trim()) return [];
        const head = document.createElement("h3");
        head.textContent = title;
        return [head, node];
      };
      const command = copy(cell, ".cmd");
      command.open = false;
      command.querySelector("button")?.remove();
      const notice = copy(cell, ".notice");
      panel.replaceChildren(
        ...(notice ? [notice] : []),
        ...titled("Scores", copy(cell, ".meta")),
        ...titled("Prompt", copy(row, ".prompt .out")),
        ...titled("Settings", copy(row, ".made dl")),
        ...titled("Cell", command),
      );
      command.open = true;
      panel.scrollTop = 0;
      const who = [...row.querySelectorAll(".who > *")].map((one) => one.textContent);
      part("#look-title").textContent = [...who, `strength ${cell.dataset.at}`].join(" · ");
      right.querySelector("figcaption").textContent = cell.matches(".zero") ? "base" : cell.dataset.at;
      canvas.setAttribute("aria-label", `Difference of strength ${cell.dataset.at} from the base`);
    };

    const neighbour = (list, from, by) => list[list.indexOf(from) + by];
    const inRow = (by) => neighbour(cells(cell.closest(".row")), cell, by);
    const inColumn = (by) => {
      const row = neighbour(rows(), cell.closest(".row"), by);
      const there = row ? cells(row) : [];
      return there.find((one) => one.dataset.at === cell.dataset.at) ?? there.at(-1);
    };

    const show = async (next) => {
      if (!next) return;
      cell = next;
      const mine = ++turn;
      const own = cell.querySelector(".pic");
      const base = cell.closest(".row").querySelector(".zero .pic");
      const lone = !base || own === base;
      const links = lone ? [own] : [base, own];
      stage.classList.toggle("lone", lone);
      stage.classList.toggle("tiny", own.matches(".tiny"));
      left.hidden = lone;
      stage.style.setProperty("--ratio", small(own).getAttribute("width") / small(own).getAttribute("height"));
      if (!lone) left.querySelector("img").alt = small(base).alt;
      right.querySelector("img").alt = small(own).alt;
      describe();
      for (const button of look.querySelectorAll("[data-step]"))
        button.disabled = !inRow(Number(button.dataset.step));
      for (const button of look.querySelectorAll("[data-row]"))
        button.disabled = !inColumn(Number(button.dataset.row));
      const thumbnails = await Promise.all(links.map((link) => load(small(link).src)));
      if (mine !== turn) return;
      put(thumbnails);
      const wholes = await Promise.all(links.map(whole));
      if (mine !== turn) return;
      if (wholes.every(Boolean)) return put(wholes);
      const note = document.createElement("p");
      note.className = "note";
      note.textContent =
        "The whole pictures are not where this report expects them, so these are small ones.";
      panel.append(note);
    };

    const open = (next) => {
      if (!next) return;
      look.showModal();
      stage.focus();
      show(next);
    };

    document.addEventListener("click", (event) => {
      const link = event.target.closest(".pic");
      // a click that is to open a tab or a window still does
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      open(link.closest(".cell"));
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.target.matches(".row")) return;
      const there = cells(event.target);
      open(there[1] ?? there[0]);
    });
    look.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || panel.contains(button)) return;
      const { view: name, step, row } = button.dataset;
      if (name) view(name);
      else if (step) show(inRow(Number(step)));
      else if (row) show(inColumn(Number(row)));
      else if (button.matches(".close")) look.close();
      // after a click, as opposed to a key, the keys are the stage's again
      if (event.detail) stage.focus();
    });
    look.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("input, select")) return;
      if (event.key === " " && event.target.closest("button, summary")) return;
      if (event.key.startsWith("Arrow") && panel.contains(event.target)) return;
      const act = {
        ArrowLeft: () => show(inRow(-1)),
        ArrowRight: () => show(inRow(1)),
        ArrowUp: () => show(inColumn(-1)),
        ArrowDown: () => show(inColumn(1)),
        " ": flip,
        "?": () => document.getElementById("help").showModal(),
      }[event.key];
      const name = VIEWS[Number(event.key) - 1];
      if (!act && !name) return;
      event.preventDefault();
      if (name) view(name);
      else act();
    });
    look.addEventListener("close", () => {
      const link = cell.querySelector(".pic");
      link.focus({ preventScroll: true });
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    range.addEventListener("input", () => stage.style.setProperty("--cut", `${range.value}%`));
    range.addEventListener("pointerup", () => stage.focus());
    gain.addEventListener("change", difference);
    view("side");
  });
})();
