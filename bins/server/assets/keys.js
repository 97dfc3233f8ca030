/** The page's keys; `?` shows them. None works while something is being typed. */

import { byId } from './dom.js';

/** @param {{panels: Map<string, any>, open: Function, close: Function, toggleNotifications: Function, toggleTheme: Function, show: Function}} page */
export function listenToKeys({ panels, open, close, toggleNotifications, toggleTheme, show }) {
  const all = () => [...panels.values()];
  const current = () => all().find(({ node }) => node.contains(document.activeElement)) ?? (panels.size === 1 ? all()[0] : undefined);
  const step = (by) => {
    if (!panels.size) return;
    show('watching');
    const at = all().findIndex(({ node }) => node.contains(document.activeElement));
    const next = at < 0 ? (by > 0 ? 0 : panels.size - 1) : (at + by + panels.size) % panels.size;
    all()[next].node.focus();
  };
  const actions = {
    '?': () => byId('keys').showModal(),
    '/': () => { show('tasks'); byId('task-id').focus(); },
    t: () => open(crypto.randomUUID()),
    j: () => step(1),
    k: () => step(-1),
    c: () => current()?.writeMessage(),
    e: () => current()?.show(),
    g: () => current()?.jump(),
    x: () => { if (current()) close(current().id); },
    n: toggleNotifications,
    d: toggleTheme,
  };
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId('keys').open) return;
    const typing = event.target.matches?.('input:not([type=radio], [type=checkbox]), textarea, select');
    if (typing) {
      if (event.key === 'Escape') (event.target.closest('.panel') ?? byId('watching')).focus();
      return;
    }
    const action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
    if (!action) return;
    event.preventDefault();
    action();
  });
}
