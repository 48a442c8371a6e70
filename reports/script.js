(() => {
  "use strict";
  const root = document.documentElement;
  const KEY = "lora-eval-theme";
  const THEMES = ["auto", "light", "dark"];
  let theme = "auto";
  try {
    theme = localStorage.getItem(KEY) || "auto";
  } catch {
    // a browser that keeps nothing for local files still switches
  }
  const paint = () => {
    if (!THEMES.includes(theme)) theme = "auto";
    root.dataset.theme = theme;
    for (const el of document.querySelectorAll("[data-show=theme]")) el.textContent = theme;
  };
  root.classList.add("scripted");
  paint();

  const nextTheme = () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // as above
    }
    paint();
  };

  const press = (button, on) => button.setAttribute("aria-pressed", String(on));

  const setUp = (grid) => {
    const body = grid.querySelector(".rows");
    if (!body) return null;
    const rows = [...body.querySelectorAll(".row:not(.head)")];
    // headings of groups; the rows of a group stay below its own
    const heads = [...body.querySelectorAll(".group")];
    const words = new Map();
    const textOf = (row) => {
      if (!words.has(row)) {
        const parts = row.querySelectorAll(".who, .out:not(.r)");
        words.set(row, [...parts].map((p) => p.textContent).join("\n").toLowerCase());
      }
      return words.get(row);
    };
    const control = (name) => grid.querySelector(`[data-set=${name}]`);
    const value = (name) => control(name)?.value ?? "";

    const filter = () => {
      const find = value("find").trim().toLowerCase();
      const wanted = ["group", "seed", "point"].map((k) => [k, value(k)]).filter(([, v]) => v);
      let shown = 0;
      for (const row of rows) {
        const keep =
          wanted.every(([k, v]) => row.dataset[k] === v) && (!find || textOf(row).includes(find));
        row.hidden = !keep;
        shown += keep;
      }
      for (const head of heads)
        head.hidden = !rows.some((row) => !row.hidden && row.dataset.group === head.dataset.group);
      grid.querySelector(".count").textContent =
        shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
      grid.querySelector(".none").hidden = shown > 0;
    };
    const sort = () => {
      const key = value("sort");
      const group = (row) => (heads.length ? row.dataset.group : 0);
      rows.sort((a, b) => group(a) - group(b) || a.dataset[key] - b.dataset[key]);
      body.append(...rows);
      for (const head of heads)
        rows.find((row) => row.dataset.group === head.dataset.group)?.before(head);
    };
    const modes = [...grid.querySelectorAll("[data-mode]")];
    const setMode = (mode) => {
      grid.dataset.diff = mode;
      for (const b of modes) press(b, b.dataset.mode === mode);
    };
    const open = (row, on) => {
      row.classList.toggle("open", on);
      const button = row.querySelector("[data-do=row]");
      button.setAttribute("aria-expanded", String(on));
      button.textContent = on ? "Fold row" : "Expand row";
    };
    let current = null;
    const go = (step) => {
      const seen = rows.filter((row) => !row.hidden);
      if (!seen.length) return;
      const at = seen.indexOf(current) + step;
      current?.classList.remove("on");
      current = seen[Math.min(Math.max(at, 0), seen.length - 1)];
      current.classList.add("on");
      current.focus({ preventScroll: true });
      current.scrollIntoView({ block: "nearest", inline: "nearest" });
    };

    grid.addEventListener("input", (event) => {
      const name = event.target.dataset.set;
      if (name === "sort") sort();
      else if (name) filter();
    });
    grid.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.mode) setMode(button.dataset.mode);
      else if (button.dataset.col) {
        const on = button.getAttribute("aria-pressed") !== "true";
        press(button, on);
        for (const cell of body.querySelectorAll(`.c${button.dataset.col}`)) cell.hidden = !on;
      } else if (button.dataset.do === "row") {
        const row = button.closest(".row");
        open(row, !row.classList.contains("open"));
      } else if (button.dataset.do === "expand") {
        const on = button.getAttribute("aria-pressed") !== "true";
        press(button, on);
        for (const row of rows) open(row, on);
      }
    });
    // browsers keep the state of controls over a reload
    if (value("sort") !== "worst") sort();
    filter();
    return {
      grid,
      go,
      search: () => {
        grid.scrollIntoView({ block: "start" });
        control("find").select();
      },
      diff: () => {
        if (!modes.length) return;
        const at = modes.findIndex((b) => b.dataset.mode === grid.dataset.diff);
        setMode(modes[(at + 1) % modes.length].dataset.mode);
      },
      order: () => {
        const select = control("sort");
        select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
        sort();
      },
      fold: () => current && open(current, !current.classList.contains("open")),
    };
  };

  document.addEventListener("DOMContentLoaded", () => {
    paint();
    const grids = [...document.querySelectorAll(".grid")].map(setUp).filter(Boolean);
    const help = document.getElementById("help");
    const inView = () =>
      grids.find(({ grid }) => grid.getBoundingClientRect().bottom > 120) ?? grids.at(-1);

    document.addEventListener("click", (event) => {
      const what = event.target.closest("[data-do]")?.dataset.do;
      if (what === "theme") nextTheme();
      if (what === "help") help.showModal();
      if (event.target === help) help.close();
    });
    // a copy button, made when the details of a cell are opened
    document.addEventListener(
      "toggle",
      (event) => {
        const box = event.target;
        if (!box.open || !box.matches("details.cmd") || box.querySelector("button")) return;
        if (!navigator.clipboard) return;
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = "Copy command";
        button.addEventListener("click", async () => {
          try {
            await navigator.clipboard.writeText(box.querySelector("code").textContent);
            button.textContent = "Copied";
          } catch {
            button.textContent = "Select it and copy by hand";
          }
        });
        box.append(button);
      },
      true,
    );
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open]")) return;
      const field = event.target.closest("input, select, textarea");
      if (field) {
        if (event.key === "Escape") field.blur();
        return;
      }
      const grid = inView();
      const act = {
        "/": () => grid?.search(),
        j: () => grid?.go(1),
        k: () => grid?.go(-1),
        d: () => grid?.diff(),
        s: () => grid?.order(),
        e: () => grid?.fold(),
        t: nextTheme,
        "?": () => help.showModal(),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  });
})();
