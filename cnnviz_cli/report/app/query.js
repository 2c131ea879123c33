// Which records are shown, and in what order; and which classes are taken for which.
(function (R) {
  'use strict';
  const {computed} = V, S = R.state;
  const sources = R.index.sources, low = sources.map(source => source.toLowerCase());
  const labels = R.labels.map(label => label.toLowerCase());
  const KNOWN = 2;  // outcomes below this have a known truth

  // A test for each thing that is asked for, but for what `left` sets: its own filter would hide what there is to choose.
  function tests(left) {
    const run = R.run.value, found = [];
    const outcome = R.column(`outcome.${run}`), predicted = R.column(`predicted.${run}`), truth = R.column(R.truthColumn(run));
    if (S.outcome.value && outcome) {
      const wanted = R.OUTCOMES.findIndex(of => of.key === S.outcome.value);
      found.push(i => outcome[i] === wanted);
    }
    if (S.states.value) {
      const wanted = R.index.states.indexOf(S.states.value), states = R.column(`state.${run}`);
      found.push(i => states?.[i] === wanted);
    }
    if (left !== 'classes' && S.said.value) found.push(i => predicted?.[i] === Number(S.said.value));
    if (left !== 'classes' && S.truth.value) found.push(i => truth?.[i] === Number(S.truth.value));
    if (left !== 'probability' && (!R.isUsual('lo') || !R.isUsual('hi'))) {
      const shares = R.column(`probability.${run}`), lo = S.lo.value, hi = S.hi.value;
      if (shares) found.push(i => shares[i] >= lo && shares[i] <= hi);
    }
    if (left !== 'measure' && S.measure.value && (S.from.value || S.to.value)) {
      const values = R.column(S.measure.value);
      const lo = S.from.value === '' ? -Infinity : Number(S.from.value);
      const hi = S.to.value === '' ? Infinity : Number(S.to.value);
      found.push(i => values[i] >= lo && values[i] <= hi);
    }
    if (S.noted.value) {
      const notes = R.notes.value;
      found.push(i => Object.hasOwn(notes, sources[i]));
    }
    const words = S.q.value.trim().toLowerCase();
    if (words) {
      const said = labels.map(label => label.includes(words));
      found.push(i => low[i].includes(words) || Boolean(said[predicted?.[i]]) || Boolean(said[truth?.[i]]));
    }
    return found;
  }
  function passing(left) {
    const asked = tests(left), found = [];
    next: for (let i = 0; i < R.n; i++) {
      for (const test of asked) if (!test(i)) continue next;
      found.push(i);
    }
    return found;
  }

  // Sorting by a number: what has none comes last, whichever way round. Equals stay in the order of the run.
  function byNumber(found, keys, down) {
    const has = found.filter(i => !Number.isNaN(keys[i])), rest = found.filter(i => Number.isNaN(keys[i]));
    has.sort(down ? (a, b) => keys[b] - keys[a] || a - b : (a, b) => keys[a] - keys[b] || a - b);
    return has.concat(rest);
  }
  // How grave a mistake is: by how much the wrong class is thought likelier than the true one. A known truth alone
  // can show a mistake: right ones follow, and those of which nothing is known come last.
  function gravity(run) {
    const outcome = R.column(`outcome.${run}`), said = R.column(`probability.${run}`);
    const truth = R.column(`truth_probability.${run}`);
    return Float64Array.from({length: R.n}, (_, i) => {
      if (!(outcome?.[i] < KNOWN)) return NaN;
      return outcome[i] === 1 ? said[i] - (truth?.[i] || 0) : -1;
    });
  }
  let places = null;
  function byName(found) {
    if (!places) {
      const ranks = Array.from(low.keys()).sort((a, b) => (low[a] < low[b] ? -1 : low[a] > low[b] ? 1 : a - b));
      places = new Uint32Array(R.n);
      ranks.forEach((i, rank) => { places[i] = rank; });
    }
    return found.sort((a, b) => places[a] - places[b]);
  }
  function byClass(found, run) {
    const predicted = R.column(`predicted.${run}`), shares = R.column(`probability.${run}`);
    if (!predicted) return found;
    const alphabet = Array.from(labels.keys()).sort((a, b) => (labels[a] < labels[b] ? -1 : 1));
    const rank = new Uint32Array(labels.length);
    alphabet.forEach((label, at) => { rank[label] = at; });
    const place = i => rank[predicted[i]] ?? labels.length;
    return found.sort((a, b) => place(a) - place(b) || (shares[b] || 0) - (shares[a] || 0) || a - b);
  }
  // Pairs of maps one can filter and sort by: those with the map that is looked at, for eight maps have 28 pairs. Another
  // map of another run tells nothing, but for `chosen`, which a link may name.
  R.compared = chosen => R.disagreements.filter(
    of => of.column === chosen || (!of.cross && (!of.views || of.views.includes(S.view.value))));
  // Which end of an order comes first; `reverse` turns it.
  R.sorts = () => [
    ['order', 'Order of the run'],
    ['name', 'File name'],
    ...(R.truths ? [['gravest', 'Gravest mistake']] : []),
    ...(R.column(`probability.${R.run.value}`) ? [['probability', 'Probability'], ['class', 'Class said']] : []),
    ...R.measures.map(of => [of.column, of.title]),
    ...R.compared(S.sort.value).map(of => [of.column, `Disagreement: ${of.title}`]),
  ];
  function sorted(found) {
    const sort = S.sort.value, run = R.run.value, back = S.reverse.value;
    if (sort === 'order') return back ? found.reverse() : found;
    if (sort === 'name') return back ? byName(found).reverse() : byName(found);
    if (sort === 'class') return back ? byClass(found, run).reverse() : byClass(found, run);
    if (sort === 'gravest') return byNumber(found, gravity(run), !back);
    const keys = sort === 'probability' ? R.column(`probability.${run}`) : R.column(sort);
    if (!keys) return found;
    // The worst of a measure first, as one looks for what went wrong; the largest disagreement first.
    const measure = R.measures.find(of => of.column === sort);
    const down = measure ? measure.better === 'lower' : true;
    return byNumber(found, keys, down !== back);
  }
  const found = computed(() => passing(''));
  // What the other filters let through, for what a part of the panel shows.
  R.among = Object.fromEntries(['classes', 'probability', 'measure'].map(left => [left, computed(() => passing(left))]));
  R.order = computed(() => sorted(found.value.slice()));
  const position = computed(() => {
    const at = new Int32Array(R.n).fill(-1);
    R.order.value.forEach((i, place) => { at[i] = place; });
    return at;
  });
  R.position = i => position.value[i] ?? -1;

  // How many records have each outcome and state, of the run that is looked at.
  R.tallies = computed(() => {
    const run = R.run.value, outcomes = [0, 0, 0, 0], states = R.index.states.map(() => 0);
    const outcome = R.column(`outcome.${run}`), state = R.column(`state.${run}`);
    for (let i = 0; i < R.n; i++) {
      outcomes[outcome ? outcome[i] : 2]++;
      if (state && states[state[i]] !== undefined) states[state[i]]++;
    }
    return {outcomes, states};
  });
  // Classes that were said, and those that are true, in the order of the alphabet: [label, how many].
  function classes(name) {
    const counts = new Map();
    for (const k of R.column(name) ?? []) if (labels[k] !== undefined) counts.set(k, (counts.get(k) ?? 0) + 1);
    return [...counts].sort((a, b) => (labels[a[0]] < labels[b[0]] ? -1 : 1));
  }
  R.said = computed(() => classes(`predicted.${R.run.value}`));
  R.true = computed(() => classes(R.truthColumn()));

  // Pairs of a true class and the class said, among what all other filters let through. `confused`: the classes by how
  // often one is taken for another, those without a mistake by how often they occur. Where classes do not exclude each
  // other, none is taken for another: an image is right if its true class is there, whatever is likelier.
  R.matrix = computed(() => {
    const run = R.run.value, predicted = R.runs[run]?.multilabel ? null : R.column(`predicted.${run}`);
    const truth = R.column(R.truthColumn(run)), outcome = R.column(`outcome.${run}`);
    const pairs = new Map(), wrong = new Map(), seen = new Map();
    const add = (counts, key) => counts.set(key, (counts.get(key) ?? 0) + 1);
    if (predicted && truth && outcome && R.truths) {
      for (const i of R.among.classes.value) {
        const t = truth[i], p = predicted[i];
        if (labels[t] === undefined || labels[p] === undefined || !(outcome[i] < KNOWN)) continue;
        add(pairs, t * labels.length + p);
        for (const k of t === p ? [t] : [t, p]) {
          add(seen, k);
          if (t !== p) add(wrong, k);
        }
      }
    }
    const confused = [...seen.keys()].sort(
      (a, b) => (wrong.get(b) ?? 0) - (wrong.get(a) ?? 0) || seen.get(b) - seen.get(a) || a - b);
    const mistakes = [...pairs].map(([key, n]) => [Math.floor(key / labels.length), key % labels.length, n])
      .filter(([t, p]) => t !== p).sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1]);
    return {
      at: (t, p) => pairs.get(t * labels.length + p) ?? 0, confused, mistakes,
      most: Math.max(1, ...pairs.values()),
    };
  });

  // What is filtered by, in words, and how each is undone.
  const FILTERS = ['q', 'outcome', 'states', 'said', 'truth', 'lo', 'hi', 'measure', 'from', 'to', 'noted'];
  R.clear = () => R.set(Object.fromEntries(FILTERS.map(key => [key, R.usual(key)])));
  R.filters = computed(() => {
    const words = [], add = (text, keys) => words.push({text, keys});
    if (S.q.value.trim()) add(`“${S.q.value.trim()}”`, ['q']);
    if (S.outcome.value) add(R.OUTCOMES.find(of => of.key === S.outcome.value).word, ['outcome']);
    if (S.states.value) add(`map: ${S.states.value}`, ['states']);
    if (S.truth.value) add(`true: ${R.label(S.truth.value)}`, ['truth']);
    if (S.said.value) add(`said: ${R.label(S.said.value)}`, ['said']);
    if (!R.isUsual('lo')) add(`probability ≥ ${R.percent(S.lo.value)}`, ['lo']);
    if (!R.isUsual('hi')) add(`probability ≤ ${R.percent(S.hi.value)}`, ['hi']);
    const of = R.measures.concat(R.disagreements).find(one => one.column === S.measure.value);
    if (of && S.from.value) add(`${of.title} ≥ ${S.from.value}`, ['from']);
    if (of && S.to.value) add(`${of.title} ≤ ${S.to.value}`, ['to']);
    if (S.noted.value) add('with a note', ['noted']);
    return words;
  });
})(globalThis.R);
