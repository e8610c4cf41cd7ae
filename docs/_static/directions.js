// The picture of docs/method.md: SAM's and VaSSO's perturbation on a loss of two parameters.
"use strict";

(() => {
  const root = document.getElementById("directions");
  if (!root) return;

  // The loss is that of an ellipse: w' H w / 2, in units of 100 pixels, with w in [-3, 3] x [-2, 2].
  const ANGLE = Math.PI / 7;
  const CURVATURES = [0.4, 2];
  const KEPT = 24; // perturbations that are shown as dots
  const SVG = "http://www.w3.org/2000/svg";
  const [cos, sin] = [Math.cos(ANGLE), Math.sin(ANGLE)];

  const gradient = ([x, y]) => {
    const u = CURVATURES[0] * (cos * x + sin * y);
    const v = CURVATURES[1] * (cos * y - sin * x);
    return [cos * u - sin * v, sin * u + cos * v];
  };
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const loss = (w) => dot(w, gradient(w)) / 2;
  const plus = (a, b, scale = 1) => [a[0] + scale * b[0], a[1] + scale * b[1]];
  const onCircle = (d, rho) => {
    const scale = rho / (Math.hypot(...d) + 1e-7);
    return [scale * d[0], scale * d[1]];
  };
  const average = (d, g, theta) => [0, 1].map((i) => (1 - theta) * d[i] + theta * g[i]);
  const degrees = (a, b) => {
    const norms = Math.hypot(...a) * Math.hypot(...b);
    return norms ? (180 / Math.PI) * Math.acos(Math.max(-1, Math.min(1, dot(a, b) / norms))) : 0;
  };

  // Mulberry32: the same minibatches at each visit.
  let seed;
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () => {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };

  root.innerHTML = `
    <svg viewBox="0 0 600 400" role="group" aria-label="SAM's and VaSSO's perturbation on the lines
        of equal loss of two parameters">
      <defs>
        ${["full", "sam", "vasso"]
          .map(
            (name) => `<marker id="head-${name}" class="${name}" viewBox="0 0 10 10" refX="8"
              refY="5" markerWidth="5" markerHeight="5" orient="auto">
              <path d="M0 0 10 5 0 10z" /></marker>`,
          )
          .join("")}
      </defs>
      <g data-part="levels"></g>
      <circle class="minimum" cx="300" cy="200" r="4" />
      <text x="310" y="216">minimum</text>
      <circle class="ball" data-part="ball" />
      <g data-part="dots"></g>
      <line class="arrow full" data-part="full" marker-end="url(#head-full)" />
      <line class="arrow sam" data-part="sam" marker-end="url(#head-sam)" />
      <line class="arrow vasso" data-part="vasso" marker-end="url(#head-vasso)" />
      <g class="handle" data-part="handle" tabindex="0" role="button"
          aria-label="The parameters w. Drag them, or move them with the arrow keys.">
        <circle class="touch" r="28" /><circle r="9" /><text x="-24" y="-14">w</text>
      </g>
    </svg>
    <table>
      <thead><tr><th>rho d / ||d||, where d is</th><th>angle to the full gradient</th>
        <th>mean of <span data-part="count"></span></th><th>loss increase</th></tr></thead>
      <tbody>
        <tr class="full"><th>the full gradient</th><td>0°</td><td></td><td></td></tr>
        <tr class="sam"><th>SAM: the minibatch's</th><td></td><td></td><td></td></tr>
        <tr class="vasso"><th>VaSSO: the average</th><td></td><td></td><td></td></tr>
      </tbody>
    </table>
    <div class="controls">
      <label>theta <input type="range" name="theta" min="0" max="1" step="0.05" value="0.2" />
        <output></output></label>
      <label>rho <input type="range" name="rho" min="0.1" max="1.5" step="0.05" value="0.8" />
        <output></output></label>
      <label>noise <input type="range" name="noise" min="0" max="3" step="0.1" value="1.5" />
        <output></output></label>
      <p><button type="button" name="one">Next minibatch</button>
        <button type="button" name="many">20 more</button>
        <button type="button" name="restart">Start again</button></p>
    </div>`;

  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const input = (name) => root.querySelector(`[name="${name}"]`);
  const value = (name) => Number(input(name).value);
  const pixel = ([x, y]) => [300 + 100 * x, 200 - 100 * y];

  for (const level of [0.05, 0.2, 0.5, 1, 1.7, 2.6, 3.7]) {
    const ellipse = document.createElementNS(SVG, "ellipse");
    const [rx, ry] = CURVATURES.map((curvature) => 100 * Math.sqrt((2 * level) / curvature));
    for (const [name, number] of Object.entries({ cx: 300, cy: 200, rx, ry })) {
      ellipse.setAttribute(name, number);
    }
    ellipse.setAttribute("transform", `rotate(${(-180 * ANGLE) / Math.PI} 300 200)`);
    part("levels").append(ellipse);
  }

  // The parameters of each minibatch and its noise, of deviation 1 per parameter; the last one is
  // the present one.
  let minibatches;

  const nextMinibatch = (w) => {
    minibatches.push({ w, noise: normal() });
  };

  const restart = (w) => {
    seed = 7;
    minibatches = [];
    for (let i = 0; i < 10; i++) nextMinibatch(w);
  };

  // The directions and angles of all minibatches, by the noise and theta that are set now.
  const history = () => {
    let before = null;
    return minibatches.map(({ w, noise }) => {
      const full = gradient(w);
      const sam = plus(full, noise, value("noise"));
      const vasso = before ? average(before, sam, value("theta")) : sam;
      before = vasso;
      const angles = { sam: degrees(sam, full), vasso: degrees(vasso, full) };
      return { full, sam, vasso, angles };
    });
  };

  const draw = () => {
    const rho = value("rho");
    const seen = history();
    const { angles, ...found } = seen.at(-1);
    const { w } = minibatches.at(-1);
    const [x, y] = pixel(w);
    part("handle").setAttribute("transform", `translate(${x} ${y})`);
    for (const [name, number] of Object.entries({ cx: x, cy: y, r: 100 * rho })) {
      part("ball").setAttribute(name, number);
    }
    for (const [name, d] of Object.entries(found)) {
      const eps = onCircle(d, rho);
      const [x2, y2] = pixel(plus(w, eps));
      for (const [end, number] of Object.entries({ x1: x, y1: y, x2, y2 })) {
        part(name).setAttribute(end, number);
      }
      const cells = root.querySelectorAll(`tr.${name} td`);
      cells[2].textContent = (loss(plus(w, eps)) - loss(w)).toFixed(2);
      if (name === "full") continue;
      const mean = seen.reduce((sum, past) => sum + past.angles[name], 0) / seen.length;
      cells[0].textContent = `${angles[name].toFixed(0)}°`;
      cells[1].textContent = `${mean.toFixed(0)}°`;
    }
    part("count").textContent = `${seen.length} minibatch${seen.length > 1 ? "es" : ""}`;
    part("dots").replaceChildren(
      ...seen.slice(-KEPT).flatMap((minibatch) =>
        ["sam", "vasso"].map((name) => {
          const mark = document.createElementNS(SVG, "circle");
          const [cx, cy] = pixel(plus(w, onCircle(minibatch[name], rho)));
          mark.setAttribute("class", name);
          for (const [key, number] of Object.entries({ cx, cy, r: 3.5 })) {
            mark.setAttribute(key, number);
          }
          return mark;
        }),
      ),
    );
    for (const slider of root.querySelectorAll("input")) {
      slider.nextElementSibling.textContent = slider.value;
    }
  };

  const moveTo = ([x, y]) => {
    minibatches.at(-1).w = [
      Math.max(-2.9, Math.min(2.9, x)),
      Math.max(-1.9, Math.min(1.9, y)),
    ];
    draw();
  };

  const handle = part("handle");
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = root.querySelector("svg").getBoundingClientRect();
    const scale = 600 / box.width / 100;
    moveTo([(event.clientX - box.left) * scale - 3, 2 - (event.clientY - box.top) * scale]);
  });
  handle.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!moves[event.key]) return;
    event.preventDefault();
    moveTo(plus(minibatches.at(-1).w, moves[event.key], event.shiftKey ? 0.5 : 0.1));
  });
  root.addEventListener("input", draw);
  for (const [name, action] of Object.entries({
    one: nextMinibatch,
    many: (w) => {
      for (let i = 0; i < 20; i++) nextMinibatch(w);
    },
    restart,
  })) {
    input(name).addEventListener("click", () => {
      action(minibatches.at(-1).w);
      draw();
    });
  }

  restart([1.5, -0.2]);
  draw();
})();
