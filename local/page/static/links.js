// The page's addresses (#/message/KEY, #/handset/+61…, #/dead-letters …), so that back, forward and bookmarks work.

const routes = new Map();

export const to = (...parts) => `#/${parts.map(encodeURIComponent).join("/").replaceAll("%2B", "+")}`;

/** Opens an address, even if it is open already. */
export function go(address) {
  if (location.hash === address) show();
  else location.hash = address;
}

/** `views`: functions that show an address, by its first word. */
export function startLinks(views) {
  for (const [name, view] of Object.entries(views)) routes.set(name, view);
  addEventListener("hashchange", show);
  document.addEventListener("click", ({ target }) => {
    if (target.closest('a[href^="#/"]')?.hash === location.hash) show();
  });
  show();
}

function show() {
  if (!location.hash.startsWith("#/")) return;
  const [name, ...rest] = location.hash.slice(2).split("/").map(decoded);
  routes.get(name)?.(...rest);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
