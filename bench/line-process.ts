import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A helper process that answers each line with a line. */
export class LineProcess {
  private readonly answers: AsyncIterator<string>;

  private constructor(
    private readonly child: ChildProcess,
    private readonly name: string,
  ) {
    this.answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  static start(command: string, args: readonly string[], env: Record<string, string> = {}): LineProcess {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } });
    // A process that is not there shows as an ended answer stream.
    child.on('error', () => undefined);
    child.stdin.on('error', () => undefined);
    return new LineProcess(child, command);
  }

  async ask(line: string): Promise<string> {
    this.child.stdin!.write(`${line}\n`);
    const answer = await this.answers.next();
    if (answer.done === true) throw new Error(`${this.name} ended without an answer`);
    return answer.value;
  }

  stop(): void {
    this.child.stdin!.end();
    this.child.kill();
  }
}
