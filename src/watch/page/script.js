'use strict';
(() => {
  // A person sees a change as it happens; a watcher looks anew about as often.
  const EVERY = 2000;
  // A watcher that is gone for long is asked twice a minute.
  const LONGEST = 30000;
  // An answer takes milliseconds; one that takes so long does not come.
  const PATIENCE = 10000;
  // What is older than this was not looked at by a watcher that is well: /healthz says the same.
  const STALE = 60000;

  const main = document.querySelector('main');
  const banner = document.getElementById('banner');
  const seen = document.querySelector('#seen time');
  const build = document.documentElement.dataset.build;
  let etag = main.dataset.etag;
  // The server's clock less ours: times are told by the clock that they are from.
  let skew = 0;
  let failures = 0;
  let lost = null;
  let asking = false;
  let timer = 0;

  const now = () => Date.now() + skew;
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  // As `lasting` of the command line: two units, and no noise.
  function lasting(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
    const two = (count, unit, rest, of) => rest ? `${count} ${unit} ${rest} ${of}` : `${count} ${unit}`;
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 600) return two(minutes, 'min', seconds % 60, 's');
    if (seconds < 3600) return `${minutes} min`;
    if (hours < 48) return two(hours, 'h', minutes % 60, 'min');
    return two(days, 'd', hours % 24, 'h');
  }

  function tell(node) {
    const at = Date.parse(node.dateTime);
    if (node.dataset.as === 'date' || Number.isNaN(at)) return;
    if (!node.title) node.title = node.textContent;
    const passed = now() - at;
    if (node.dataset.as === 'lasting') put(node, lasting(passed));
    else if (Math.abs(passed) < 1000) put(node, 'now');
    else put(node, passed > 0 ? `${lasting(passed)} ago` : `in ${lasting(-passed)}`);
  }

  const keyOf = node => node && node.dataset ? node.dataset.key : undefined;
  const alike = (one, other) =>
    one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

  // Makes `old` as `fresh` is, and leaves alone what is as it was: focus, selection, places scrolled to.
  function become(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.nodeName === 'TIME' && old.dateTime === fresh.dateTime) return;
    for (const { name } of [...old.attributes]) {
      // Whether it is unfolded is the reader's.
      if (!fresh.hasAttribute(name) && !(old.nodeName === 'DETAILS' && name === 'open')) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    inside(old, fresh);
  }

  function inside(old, fresh) {
    const wanted = new Set([...fresh.children].map(keyOf).filter(Boolean));
    const known = new Map([...old.children].filter(keyOf).map(child => [keyOf(child), child]));
    let at = old.firstChild;
    const drop = () => {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    };
    for (const child of [...fresh.childNodes]) {
      while (at && keyOf(at) && !wanted.has(keyOf(at))) drop();
      const key = keyOf(child);
      const same = key ? known.get(key) : at;
      // What has no key gives way: moving what is focused would take the focus from it.
      if (key && same) while (at && at !== same && !wanted.has(keyOf(at))) drop();
      if (!same || !alike(same, child)) {
        old.insertBefore(document.importNode(child, true), at);
        continue;
      }
      known.delete(key);
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      become(same, child);
    }
    while (at) drop();
  }

  function show() {
    for (const node of document.querySelectorAll('time')) tell(node);
    const old = now() - Date.parse(seen.dateTime) > STALE;
    if (lost) put(banner, `Not connected since ${lost.toLocaleTimeString()}: what is shown may have changed.`);
    else if (old) put(banner, 'The watcher answers, and has not looked for more than a minute: what is shown is old.');
    else put(banner, '');
  }

  async function ask() {
    const answer = await fetch('part', {
      cache: 'no-store',
      headers: { 'If-None-Match': etag },
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status !== 200 && answer.status !== 304) throw new Error(`status ${answer.status}`);
    const theirs = answer.headers.get('Rekiln-Page');
    if (!theirs) throw new Error('somebody else answers');
    // Another watcher's page. Not at once: two that disagree behind one address would reload for ever.
    if (theirs !== build && performance.now() > STALE) return location.reload();
    if (answer.status === 200) {
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').body;
      inside(main, fresh);
      etag = answer.headers.get('ETag') || '';
      document.title = document.querySelector('[data-title]').dataset.title;
    }
    const date = Date.parse(answer.headers.get('Date'));
    if (!Number.isNaN(date)) skew = date - Date.now();
    const at = answer.headers.get('Rekiln-Seen');
    if (at !== seen.dateTime) {
      seen.dateTime = at;
      seen.title = at;
    }
  }

  async function look() {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    try {
      await ask();
      failures = 0;
      lost = null;
    } catch {
      failures += 1;
      lost = lost || new Date();
    }
    asking = false;
    show();
    timer = setTimeout(look, Math.min(LONGEST, EVERY * 2 ** failures));
  }

  document.addEventListener('visibilitychange', look);
  addEventListener('online', look);
  setInterval(show, 1000);
  look();
})();
