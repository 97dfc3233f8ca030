/** The connection, in words: whether it is there, why not, and when it is tried again. */

import { byId } from './dom.js';

/** @param {import('./fanfare.js').State} state */
export function showLink({ state, reason, code, retryAt, attempt }) {
  const failed = code ? `${reason} (${code})` : reason;
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const text = {
    connecting: attempt ? 'Connecting again…' : 'Connecting…',
    live: 'Connected',
    waiting: `Offline: ${failed}.`,
    closed: `Closed: ${failed}. It stays closed until you connect again.`,
  }[state];
  byId('link').dataset.state = state;
  document.body.dataset.link = state;
  // Written on change only: a screen reader would say it every second.
  if (byId('link-text').textContent !== text) byId('link-text').textContent = text;
  byId('link-wait').textContent = state === 'waiting' && seconds > 0 ? `Next try in ${seconds} s` : '';
  byId('link-now').hidden = state !== 'waiting' && state !== 'closed';
  byId('link-now').textContent = state === 'closed' ? 'Connect again' : 'Connect now';
}
