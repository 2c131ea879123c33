// What is asked of the page: signals, and the address that says the same. The address wins; nothing else is needed.
(function (R) {
  'use strict';
  const {signal, computed, effect, batch} = V;

  // Each key: what it is by default, and what of an address is believed. A hand-edited one does no harm.
  const among = values => text => (values.includes(text) ? text : undefined);
  const within = (lo, hi) => text => {
    const number = Number(text);
    return text.trim() === '' || !Number.isFinite(number) ? undefined : Math.min(hi, Math.max(lo, number));
  };
  const whole = (lo, hi) => text => {
    const number = within(lo, hi)(text);
    return number === undefined ? undefined : Math.round(number);
  };
  const known = text => (R.labels[text] !== undefined && /^\d+$/.test(text) ? text : undefined);
  const numeric = text => (text.trim() !== '' && Number.isFinite(Number(text)) ? String(Number(text)) : undefined);
  const measured = R.measures.concat(R.disagreements).map(of => of.column).filter(name => R.column(name));
  const onOff = text => ({0: false, 1: true}[text]);
  const words = text => text.slice(0, 500);
  // What a run opens on: the first map of a layer, which is the easiest to read; or else one of pixels, or a sheet.
  const KINDS = [view => view.kind === 'map' && view.layer, view => view.kind === 'map', view => view.kind !== 'figure', () => true];
  R.firstView = run => {
    for (const fits of KINDS) {
      const at = R.views.findIndex(view => view.run === run && fits(view));
      if (at >= 0) return at;
    }
    return -1;
  };
  const drawn = Math.max(0, R.firstView((R.views.find(view => view.kind !== 'figure') ?? R.views[0])?.run));
  const phone = matchMedia('(max-width: 520px)').matches;
  const SPEC = {
    tab: ['images', among(['images', 'dreams', 'evaluation', 'findings'])],
    q: ['', words],
    outcome: ['', among(R.OUTCOMES.map(of => of.key))],
    states: ['', among(R.index.states)],
    said: ['', known],
    truth: ['', known],
    lo: [0, within(0, 1)],
    hi: [1, within(0, 1)],
    measure: ['', among(measured)],
    from: ['', numeric],
    to: ['', numeric],
    noted: [false, onOff],
    sort: ['order', among(['order', 'name', 'gravest', 'probability', 'class'].concat(measured))],
    reverse: [false, onOff],
    view: [drawn, whole(0, Math.max(0, R.views.length - 1))],
    role: ['says', text => (/^(says|true|asked\.\d+)$/.test(text) ? text : undefined)],
    overlay: [true, onOff],
    palette: ['', among(Object.keys(R.palettes))],
    opacity: [0.75, within(0, 1)],
    scale: ['own', among(['own', 'shared'])],
    size: [phone ? 140 : 160, whole(90, 320)],
    open: ['', text => (R.indexOf(text) >= 0 ? text : undefined)],
    mode: ['one', among(['one', 'side', 'slider', 'blink'])],
    other: ['', text => (/^(photo|\d+\.(says|true|asked(\.\d+)?))$/.test(text) ? text : undefined)],
  };
  R.state = Object.fromEntries(Object.entries(SPEC).map(([key, [usual]]) => [key, signal(usual)]));
  R.usual = key => SPEC[key][0];
  R.isUsual = key => R.state[key].value === SPEC[key][0];
  R.set = values => batch(() => {
    for (const key in values) R.state[key].value = values[key];
  });
  // Which of several runs the captions, filters and counts are about: that of the view.
  R.run = computed(() => R.views[R.state.view.value]?.run ?? 0);

  // Notes on images, by source; in the address as note=SOURCE=TEXT, each part encoded.
  R.notes = signal({});
  R.note = source => (Object.hasOwn(R.notes.value, source) ? R.notes.value[source] : '');
  R.setNote = (source, text) => {
    const {[source]: _, ...others} = R.notes.value;
    R.notes.value = text.trim() ? {...others, [source]: text.slice(0, 2000)} : others;
  };

  function read(hash) {
    let asked;
    try {
      asked = new URLSearchParams(hash.replace(/^#/, ''));
    } catch {
      asked = new URLSearchParams();
    }
    const notes = {};
    for (const text of asked.getAll('note')) {
      const at = text.indexOf('=');
      try {
        const source = decodeURIComponent(text.slice(0, at));
        if (at > 0 && R.indexOf(source) >= 0) notes[source] = text.slice(at + 1, at + 2001);
      } catch {
        // Half an escape, cut off by a mail program: this note is lost, the page is not.
      }
    }
    batch(() => {
      for (const key in SPEC) {
        const text = asked.get(key);
        R.state[key].value = (text === null ? undefined : SPEC[key][1](text)) ?? SPEC[key][0];
      }
      R.notes.value = notes;
    });
  }
  function written() {
    const said = new URLSearchParams();
    for (const key in SPEC) {
      const value = R.state[key].value;
      if (value !== SPEC[key][0]) said.set(key, value === true ? '1' : value === false ? '0' : String(value));
    }
    for (const source in R.notes.value) said.append('note', `${encodeURIComponent(source)}=${R.notes.value[source]}`);
    return `#${said}`;
  }
  R.address = () => location.href.replace(/#.*/s, '') + written();

  read(location.hash);
  // Browsers stop a page that rewrites its address hundreds of times in half a minute, as a slider would.
  let timer = 0;
  // An image that is opened is a step of its own, so that the browser's way back closes it: what the address was below.
  let below = null, opened = R.state.open.value !== '';
  function write() {
    clearTimeout(timer);
    timer = 0;
    const hash = written();
    if (hash === (location.hash || '#')) return;
    const opens = !opened && R.state.open.value !== '' && below === null;
    opened = R.state.open.value !== '';
    try {
      if (opens) {
        below = location.hash;
        history.pushState(null, '', hash);
      } else history.replaceState(null, '', hash);
    } catch {
      // A sandboxed frame may have no history of its own.
    }
  }
  effect(() => {
    written();
    if (!timer) timer = setTimeout(write, 120);
  });
  addEventListener('pagehide', write);
  addEventListener('hashchange', () => {
    const back = below !== null && location.hash === below;
    below = null;
    if (!back) read(location.hash);
    else R.state.open.value = '';  // all else stays, notes too, and the address is brought up to it
    write();
  });

  // The theme is the reader's and not the link's. Where nothing can be stored, it lasts as long as the page.
  const kept = () => {
    try {
      return localStorage.getItem('cnnviz-theme');
    } catch {
      return null;
    }
  };
  R.theme = signal(['light', 'dark'].includes(kept()) ? kept() : 'auto');
  effect(() => {
    const theme = R.theme.value;
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem('cnnviz-theme', theme);
    } catch {
      // As above.
    }
  });
  R.toast = signal('');
  R.copyLink = () => R.copy(R.address(), 'The link to this view is copied.');
  let fading = 0;
  R.say = text => {
    R.toast.value = text;
    clearTimeout(fading);
    fading = setTimeout(() => { R.toast.value = ''; }, 4000);
  };
  R.copy = async (text, said = 'Copied.') => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // No clipboard by file:// in some browsers: the old way, from a field outside the screen.
      const field = document.createElement('textarea'), back = document.activeElement;
      const room = document.querySelector('dialog[open]') ?? document.body;
      field.value = text;
      field.className = 'sr';
      room.append(field);
      field.select();
      const done = document.execCommand('copy');
      field.remove();
      back?.focus();
      if (!done) said = 'This browser does not let the page copy. The link is in the address bar.';
    }
    R.say(said);
  };
})(globalThis.R);
