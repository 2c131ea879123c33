// Maps as pictures: the page samples and colours them as cnnviz_cli.render does, so that both show the same.
// tests/report/test_browser_exact.py holds the two together.
(function (R) {
  'use strict';

  const EDGES = {smooth: 2, straight: 1};  // repeated cells round a map: a pixel on the edge reaches so far beyond it
  const FULL = 0.75;  // the opacity of the figures: a coarse map under a ramp, one value a pixel opaque
  const STEEP = 0.9;  // the share of the scale at which a ramp ends

  // ---- where a map lies

  // The pixels whose centres lie in a box, at least one: [first, behind the last].
  function span(start, stop, limit) {
    const first = Math.min(Math.max(Math.ceil(start - 0.5), 0), limit - 1);
    return [first, Math.max(first + 1, Math.min(Math.ceil(stop - 0.5), limit))];
  }

  // The window of a box, in pixels of an upright photograph of `size` that is shown at w x h.
  R.window = (box, size, w, h) => {
    const across = w / size[0], down = h / size[1];
    const [left, right] = span(box[0] * across, box[2] * across, w);
    const [top, bottom] = span(box[1] * down, box[3] * down, h);
    return {left, top, width: right - left, height: bottom - top};
  };

  // Where the columns or rows of a window begin and end in the cells of a map, of which there are `cells`.
  function reach(start, stop, first, behind, cells) {
    const by = cells / (stop - start);
    return [(first - start) * by, (behind - start) * by];
  }

  // ---- sampling: Pillow's, along one direction

  const linear = x => Math.max(0, 1 - Math.abs(x));
  const cubic = x => {  // Catmull and Rom's
    const a = Math.abs(x);
    if (a < 1) return (1.5 * a - 2.5) * a * a + 1;
    return a < 2 ? ((-0.5 * a + 2.5) * a - 4) * a + 2 : 0;
  };

  // Of each of `count` samples between two places: the first cell it takes, and the weights of that and the next ones.
  function weights(start, stop, count, cells, smooth) {
    const edge = smooth ? EDGES.smooth : EDGES.straight, from = Math.max(-edge, start);
    const step = (Math.min(cells + edge, stop) - from) / count, spread = Math.max(1, step);
    const reached = (smooth ? 2 : 1) * spread, kernel = smooth ? cubic : linear, found = [];
    for (let k = 0; k < count; k++) {
      const centre = from + (k + 0.5) * step;
      const first = Math.max(-edge, Math.trunc(centre - reached + 0.5 + edge) - edge);
      const behind = Math.min(cells + edge, Math.trunc(centre + reached + 0.5 + edge) - edge);
      const row = [];
      let sum = 0;
      for (let c = first; c < behind; c++) sum += row[row.push(kernel((c - centre + 0.5) / spread)) - 1];
      found.push({first, row: row.map(w => w / sum), before: Math.floor(centre - 0.5)});
    }
    return found;
  }

  // One direction of a picture of w x h: `line` cells a step apart become as many as there are weights. What is
  // smooth is cut to the two cells on both its sides: it invents no extremum.
  function along(values, lines, cells, plan, smooth, get) {
    const inside = c => (c < 0 ? 0 : c >= cells ? cells - 1 : c);
    const out = new Float32Array(lines * plan.length);
    for (let k = 0; k < plan.length; k++) {
      const {first, row, before} = plan[k], low = inside(before), high = inside(before + 1);
      for (let line = 0; line < lines; line++) {
        let sum = 0;
        for (let c = 0; c < row.length; c++) sum += row[c] * values[get(line, inside(first + c))];
        if (smooth) {
          const one = values[get(line, low)], other = values[get(line, high)];
          sum = Math.min(Math.max(sum, Math.min(one, other)), Math.max(one, other));
        }
        out[k * lines + line] = sum;
      }
    }
    return out;  // the direction that was sampled comes first
  }

  // (count[1], count[0]) shares from 0 to 1 of a map of bytes, sampled in its window; `where` says which of its cells.
  function sample(cells, shape, where, count) {
    const [h, w] = shape, [left, right, top, bottom] = where;
    const slack = 1e-9, smooth = right - left <= count[0] + slack && bottom - top <= count[1] + slack;
    const across = weights(left, right, count[0], w, smooth), down = weights(top, bottom, count[1], h, smooth);
    const columns = along(cells, h, w, across, smooth, (y, x) => y * w + x);  // (count[0], h)
    const rows = along(columns, count[0], h, down, smooth, (x, y) => x * h + y);  // (count[1], count[0])
    for (let k = 0; k < rows.length; k++) rows[k] = Math.min(1, Math.max(0, rows[k]));
    return rows;
  }

  // ---- numbers: {shares (h * w, 0 to 1 of the map's scale), shape, exact}, or of a map with a value a pixel a small
  // picture of it, which takes a moment to read

  const known = new WeakMap(), underway = new WeakMap();

  // The numbers of a map; null where the page has none, or not yet: see R.numbers.
  R.numbersOf = map => {
    if (map.data && !known.has(map)) {
      known.set(map, {shares: Float32Array.from(R.bytes(map.data), v => v / 255), shape: map.shape, exact: true});
    }
    return known.get(map) || null;
  };

  // The same, read if need be.
  R.numbers = map => {
    if (R.numbersOf(map) || !map.small) return Promise.resolve(R.numbersOf(map));
    if (!underway.has(map)) {
      const picture = new Image();
      picture.src = `data:image/webp;base64,${map.small}`;
      underway.set(map, picture.decode().then(() => {
        const canvas = document.createElement('canvas'), w = canvas.width = picture.naturalWidth, h = canvas.height = picture.naturalHeight;
        const context = canvas.getContext('2d', {willReadFrequently: true});
        context.drawImage(picture, 0, 0);
        const {data} = context.getImageData(0, 0, w, h);
        known.set(map, {shares: Float32Array.from({length: w * h}, (_, k) => data[4 * k] / 255), shape: [h, w], exact: false});
        return known.get(map);
      }, () => null));
    }
    return underway.get(map);
  };

  // A share of the map's own scale as one of another range. Around zero both ends are as far from it.
  function rescaled(shares, map, scale, signed) {
    let [from, to] = scale || map.scale;
    if (signed) [from, to] = [-Math.max(Math.abs(from), Math.abs(to)), Math.max(Math.abs(from), Math.abs(to))];
    const [low, high] = map.scale, place = s => (low + s * (high - low) - from) / (to - from || 1);
    if (from === low && to === high) return shares;
    return shares.map(s => Math.min(1, Math.max(0, place(s))));
  }

  // Shares (height * width, 0 to 1) of a map as a canvas of that size draws them. `at` says where the canvas lies:
  // {size: the photograph's, shown: [w, h], left, top, width, height} as R.window gives it; without it, it is the box.
  R.levels = (map, width, height, {scale = null, at = null} = {}) => {
    const {shape, shares: own} = R.numbersOf(map), shares = rescaled(own, map, scale, R.views[map.view].signed), [h, w] = shape;
    let where = [0, w, 0, h];
    if (at) {
      const across = at.shown[0] / at.size[0], down = at.shown[1] / at.size[1], box = map.box;
      where = [
        ...reach(box[0] * across, box[2] * across, at.left, at.left + at.width, w),
        ...reach(box[1] * down, box[3] * down, at.top, at.top + at.height, h),
      ];
    }
    return sample(shares, shape, where, [width, height]);
  };

  // ---- colours

  // Half to even, as numpy rounds.
  const round = v => { const r = Math.round(v); return r - v === 0.5 && r % 2 ? r - 1 : r; };
  const ramp = (level, opacity) => {
    const t = Math.min(1, level / 255 / STEEP);
    return round(255 * opacity * t * t * (3 - 2 * t));
  };
  // How far the photograph under the evidence is drained of colour and light, 0 to 255.
  const drained = level => Math.min(255, 2 * level);

  // Whether there are numbers to draw, or a picture of them. A map without a scale has no colours.
  R.drawable = map => Boolean(map && map.scale && (map.data || map.image || map.small));
  const kind = map => R.views[map.view].kind;
  const strength = (map, share) => round(255 * (R.views[map.view].signed ? Math.abs(2 * share - 1) : share));

  const held = new WeakMap();  // canvas -> what was sampled for it last: a new palette samples nothing
  function levelsFor(canvas, map, options) {
    const at = options.at, scale = options.scale || null;
    const key = [canvas.width, canvas.height, scale, at && [at.left, at.top, at.width, at.height, at.shown]].join();
    const last = held.get(canvas);
    if (last && last.map === map && last.key === key) return last.levels;
    const levels = R.levels(map, canvas.width, canvas.height, {scale, at});
    held.set(canvas, {map, key, levels});
    return levels;
  }

  const asked = new WeakMap();  // canvas -> the map that it waits for

  // A map on a canvas of the caller's size that covers its box, or the window `at`. At once where the page has its
  // numbers; else a promise.
  R.paint = (canvas, map, options) => {
    const context = canvas.getContext('2d'), {palette, opacity} = options;
    asked.set(canvas, map);
    if (!R.drawable(map) || !R.numbersOf(map)) {
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (!map || !R.drawable(map)) return undefined;
      return R.numbers(map).then(found => (found && asked.get(canvas) === map ? R.paint(canvas, map, options) : undefined));
    }
    const levels = levelsFor(canvas, map, options), picture = context.createImageData(canvas.width, canvas.height);
    const out = new Uint32Array(picture.data.buffer), table = R.palettes[palette], last = table.length / 3 - 1;
    const colours = new Uint32Array(last + 1), over = kind(map) === 'map';
    for (let k = 0; k <= last; k++) colours[k] = table[3 * k] | table[3 * k + 1] << 8 | table[3 * k + 2] << 16;
    const opaque = round(255 * Math.min(1, opacity / FULL));
    const alphas = Uint32Array.from({length: 256}, (_, level) => (over ? ramp(level, opacity) : opaque) << 24);
    for (let k = 0; k < levels.length; k++) {
      const share = levels[k];
      out[k] = (colours[round(share * last)] | alphas[over ? strength(map, share) : 255]) >>> 0;
    }
    context.putImageData(picture, 0, 0);
    return undefined;
  };

  // How far the photograph under a coarse map is drained, as the address of a mask; '' under one that is opaque.
  R.drain = (map, width, height, options) => {
    if (!R.drawable(map) || !R.numbersOf(map) || kind(map) !== 'map') return '';
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const levels = R.levels(map, width, height, options), context = canvas.getContext('2d');
    const picture = context.createImageData(width, height);
    for (let k = 0; k < levels.length; k++) picture.data[4 * k + 3] = drained(strength(map, levels[k]));
    context.putImageData(picture, 0, 0);
    return canvas.toDataURL();
  };

  // How opaque a map is drawn under a setting: one of pixels covers the image where a figure's does.
  R.opacityOf = (view, set) => (view?.kind === 'pixels' ? Math.min(1, set / FULL) : set);

  // The colours of a palette from the lowest to the highest, on a canvas.
  R.paintBar = (canvas, palette) => {
    const context = canvas.getContext('2d'), {width, height} = canvas, picture = context.createImageData(width, height);
    const table = R.palettes[palette], last = table.length / 3 - 1;
    for (let k = 0; k < width * height; k++) {
      const at = 3 * Math.round((k % width) / (width - 1) * last);
      picture.data.set([table[at], table[at + 1], table[at + 2], 255], 4 * k);
    }
    context.putImageData(picture, 0, 0);
  };

  // What a map says at a place of the upright photograph: {x, y, share, text}; null where the network saw nothing.
  R.valueAt = (map, x, y) => {
    const numbers = map && map.scale && R.numbersOf(map);
    if (!numbers) return null;
    const {shares, exact, shape: [h, w]} = numbers, [left, top, right, bottom] = map.box;
    const column = Math.floor((x - left) / (right - left) * w), row = Math.floor((y - top) / (bottom - top) * h);
    if (column < 0 || row < 0 || column >= w || row >= h) return null;
    const share = shares[row * w + column], [low, high] = map.scale;
    const beyond = map.range && (share === 1 && map.range[1] > high ? '≥ ' : share === 0 && map.range[0] < low ? '≤ ' : '');
    return {x: column, y: row, exact, share, text: `${beyond || (exact ? '' : '≈ ')}${R.number(low + share * (high - low))}`};
  };
}(globalThis.R = globalThis.R || {}));
