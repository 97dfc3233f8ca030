/** What tasks are called, as far as their events said it: for places that know only an id. */

const TITLES_MAX = 500;
const titles = new Map();

/** @param {string} task @param {string|null} title */
export function remember(task, title) {
  if (!title) return;
  titles.delete(task);
  titles.set(task, title);
  if (titles.size > TITLES_MAX) titles.delete(titles.keys().next().value);
}

/** @param {string} task @returns {string|undefined} */
export const titleFor = (task) => titles.get(task);
