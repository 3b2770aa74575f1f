import './styles/base.css';
import './styles/composer.css';
import './styles/stage.css';
import './styles/side.css';
import { App, restoredSentence } from './app.js';
import { fetchModels, type Model } from './protocol/http.js';
import { RateMeter } from './protocol/rate-meter.js';
import { StreamSocket, type SocketState } from './protocol/socket.js';
import { Transport } from './protocol/transport.js';
import { settingsOfFragment } from './state/settings.js';
import { openHistory, type HistoryEntry, type HistoryStore } from './storage/history.js';
import { Announcer } from './views/announcer.js';
import { Composer } from './views/composer.js';
import { byId, setText } from './views/dom.js';
import { HistoryView } from './views/history.js';
import { fillIcons } from './views/icons.js';
import { LatencyPanel } from './views/latency.js';
import { ConnectionView } from './views/notice.js';

const STREAM_PATH = '/v1/stream';
const RETRY_MODELS_MS = 2000;

fillIcons(document);
const announcer = new Announcer();
const latency = new LatencyPanel();
const store: HistoryStore = await openHistory();
let model: Model | null = null;
let socketState: SocketState = 'idle';

const connection = new ConnectionView(() => { void connect(); });
const socket = new StreamSocket({
  url: `${location.origin.replace(/^http/, 'ws')}${STREAM_PATH}`,
  onState: (state) => {
    socketState = state;
    showConnection();
  },
});
const transport = new Transport(socket, showConnection);
const app = new App({
  transport,
  latency,
  announcer,
  meter: new RateMeter((rate) => { latency.rate(rate); }),
  stage: byId('stage', HTMLElement),
  onFinished: (entries) => { void remember(entries); },
});

const composer = new Composer(() => {
  if (model === null) {
    announcer.toast('The server cannot be reached yet');
    return;
  }
  byId('empty', HTMLElement).hidden = true;
  app.draw(composer.take(), model);
});

const historyView = new HistoryView({
  restore: ({ settings }) => {
    composer.show(settings);
    composer.focus();
    announcer.say(restoredSentence(settings));
  },
  clear: () => { void store.clear().then(showHistory); },
});

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && app.cancelNewest()) event.preventDefault();
});
addEventListener('pagehide', (event) => { if (!event.persisted) app.cancelAll(); });
addEventListener('hashchange', showLink);

await Promise.all([connect(), showHistory()]);

/** The model first: without an answer to that there is no server to open a socket to. */
async function connect(): Promise<void> {
  try {
    const models = await fetchModels();
    const isFirst = model === null;
    model = models[0] ?? null;
    if (model === null) throw new Error('no model');
    setText(byId('model', HTMLElement), model.id);
    if (isFirst) {
      composer.describe(model);
      showLink();
    }
  } catch {
    showConnection();
    setTimeout(() => { if (model === null) void connect(); }, RETRY_MODELS_MS);
    return;
  }
  await transport.connect();
  showConnection();
}

function showConnection(): void {
  connection.show(transport.name, socketState, model !== null || socketState === 'idle');
}

/** A link brings its settings; drawing is one press away and never starts by itself. */
function showLink(): void {
  const settings = model === null ? null : settingsOfFragment(location.hash, model);
  if (settings === null) return;
  composer.show(settings);
  composer.focus();
}

async function remember(entries: HistoryEntry[]): Promise<void> {
  for (const entry of entries) await store.add(entry);
  await showHistory();
}

async function showHistory(): Promise<void> {
  const entries = await store.all();
  historyView.show(entries, store.isKept);
  latency.recent(entries.filter(({ isFirst }) => isFirst).map(({ totalMs }) => totalMs).reverse());
}
