/** The view's state in the page's address: `#user=7&task={id}&task={id}`, so that it can be kept, shared and opened again. */

import { isTaskId } from './dom.js';

/** Most tasks that one page opens. */
export const TASKS_MAX = 12;

/** A user's number: a u64, kept as text. */
export const isUser = (text) => /^(0|[1-9][0-9]{0,19})$/.test(text ?? '') && BigInt(text) < 2n ** 64n;

/** @returns {{user: string, tasks: string[]}} What is unreadable counts as absent. */
export function read(hash = location.hash) {
  const fields = new URLSearchParams(hash.slice(1));
  const user = fields.get('user');
  const tasks = fields.getAll('task').map((id) => id.toLowerCase()).filter(isTaskId);
  return { user: isUser(user) ? user : '7', tasks: [...new Set(tasks)].slice(0, TASKS_MAX) };
}

/** @param {{user: string, tasks?: string[]}} view */
export function format({ user, tasks = [] }) {
  return `#${[['user', user], ...tasks.map((id) => ['task', id])].map((pair) => pair.join('=')).join('&')}`;
}

/** Without an entry in the history: the back button leaves the page, not a panel. */
export function write(view) {
  const hash = format(view);
  if (hash !== location.hash) history.replaceState(null, '', hash);
}
