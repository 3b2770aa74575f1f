/**
 * May a page of this origin open a socket here? Browsers send cookies and reach local addresses on behalf of any page, and
 * sockets have no same-origin rule, so the server keeps it: pages of this very host, and those that were named. Who
 * is no browser sends no Origin.
 */
export function isAllowedOrigin(origin: string | undefined, host: string | undefined, allowed: readonly string[]): boolean {
  if (origin === undefined || allowed.includes('*') || allowed.includes(origin)) return true;
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}
