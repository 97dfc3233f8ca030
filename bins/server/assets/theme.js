// Before the first paint, so that a chosen theme does not flash: a classic script, as modules run after parsing.
{
  let theme = null;
  try { theme = localStorage.getItem('fanfare.theme'); } catch { /* Storage may be forbidden: the system decides. */ }
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
}
