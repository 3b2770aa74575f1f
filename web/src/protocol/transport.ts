import { isLast, type DrawEvent, type Drawing, type DrawListener, type TransportName } from './events.js';
import type { ImagesRequest } from './frames.js';
import { drawOverHttp } from './http.js';
import type { StreamSocket } from './socket.js';

/** Best first. Each next one is taken when the one before is refused, and the page says so. */
export class Transport {
  private way: TransportName = 'socket';

  constructor(
    private readonly socket: StreamSocket,
    private readonly onChange: (way: TransportName) => void,
  ) {}

  get name(): TransportName {
    return this.way;
  }

  /** Tries the socket (again). */
  async connect(): Promise<void> {
    this.use((await this.socket.connect()) ? 'socket' : this.way === 'socket' ? 'sse' : this.way);
  }

  /** `partialImages`: wanted over the socket, in place of rows; the HTTP stream, which has no rows, always asks for them. */
  draw(request: ImagesRequest, partialImages: number, listener: DrawListener): Drawing {
    switch (this.way) {
      case 'socket': {
        const asked = partialImages === 0 ? request : { ...request, partial_images: partialImages };
        return this.over((listen) => this.socket.draw(asked, listen), 'socket_refused', 'sse', request, listener);
      }
      case 'sse':
        return this.over((listen) => drawOverHttp(request, true, listen), 'stream', 'http', request, listener);
      case 'http':
        return drawOverHttp(request, false, listener);
    }
  }

  /** Starts a drawing, and starts it again the next way if this one is refused as such. */
  private over(start: (listen: DrawListener) => Drawing, refusal: string, next: TransportName, request: ImagesRequest, listener: DrawListener): Drawing {
    let current: Drawing | null = null;
    let isOver = false;
    const listen = (event: DrawEvent): void => {
      if (isOver) return;
      if (event.type === 'failed' && isRefusal(event, refusal)) {
        isOver = true;
        this.use(next);
        current = this.draw(request, 0, listener);
        return;
      }
      isOver = isLast(event);
      listener(event);
    };
    const first = start(listen);
    current ??= first;
    return { cancel: () => { current?.cancel(); } };
  }

  private use(way: TransportName): void {
    if (way === this.way) return;
    this.way = way;
    this.onChange(way);
  }
}

/** `socket_refused` by code; a server without streaming names the field. */
function isRefusal({ error }: Extract<DrawEvent, { type: 'failed' }>, refusal: string): boolean {
  return error.code === refusal || (error.code === 'unsupported_value' && (error.param === refusal || error.param === 'partial_images'));
}
