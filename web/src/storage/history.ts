import type { Settings } from '../state/settings.js';

/** A finished picture as this browser remembers it. */
export interface HistoryEntry {
  id: string;
  createdAt: number;
  /** As the form held them, with this picture's own seed and n = 1: enough to draw it again. */
  settings: Settings;
  model: string;
  /** The picture, or a small version of a large one. */
  thumbnail: Blob;
  /** Of its request: the figures below are the request's. */
  isFirst: boolean;
  firstRowMs: number | null;
  totalMs: number;
  perTokenMs: number | null;
}

/** Older ones go. */
export const HISTORY_LIMIT = 120;

const DATABASE = 'fast-ardiff';
const STORE = 'pictures';

export interface HistoryStore {
  /** False where the browser keeps nothing (private windows): history then ends with the page. */
  readonly isKept: boolean;
  /** Newest first. */
  all(): Promise<HistoryEntry[]>;
  add(entry: HistoryEntry): Promise<void>;
  clear(): Promise<void>;
}

/** In this browser only: IndexedDB, or the page's memory where that is refused. */
export async function openHistory(): Promise<HistoryStore> {
  try {
    return new BrowserHistory(await openDatabase());
  } catch {
    return new PageHistory();
  }
}

class BrowserHistory implements HistoryStore {
  readonly isKept = true;

  constructor(private readonly database: IDBDatabase) {}

  async all(): Promise<HistoryEntry[]> {
    const entries = await done<HistoryEntry[]>(this.store('readonly').index('createdAt').getAll() as IDBRequest<HistoryEntry[]>);
    return entries.reverse();
  }

  async add(entry: HistoryEntry): Promise<void> {
    await done(this.store('readwrite').put(entry));
    const ids = await done(this.store('readonly').index('createdAt').getAllKeys());
    for (const id of ids.slice(0, -HISTORY_LIMIT)) await done(this.store('readwrite').delete(id));
  }

  async clear(): Promise<void> {
    await done(this.store('readwrite').clear());
  }

  private store(mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }
}

class PageHistory implements HistoryStore {
  readonly isKept = false;
  private entries: HistoryEntry[] = [];

  all(): Promise<HistoryEntry[]> {
    return Promise.resolve([...this.entries]);
  }

  add(entry: HistoryEntry): Promise<void> {
    this.entries = [entry, ...this.entries].slice(0, HISTORY_LIMIT);
    return Promise.resolve();
  }

  clear(): Promise<void> {
    this.entries = [];
    return Promise.resolve();
  }
}

function openDatabase(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.addEventListener('upgradeneeded', () => {
    request.result.createObjectStore(STORE, { keyPath: 'id' }).createIndex('createdAt', 'createdAt');
  });
  return done(request);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener('success', () => { resolve(request.result); });
    request.addEventListener('error', () => { reject(request.error ?? new Error('the database failed')); });
  });
}
