/** From batches of events to lines in an output. */

import { setImmediate as eventLoop } from 'node:timers/promises';

import { JsonExporter } from '../exporters/json.ts';
import { LineBuffer } from '../exporters/line-buffer.ts';
import { TextExporter } from '../exporters/text.ts';
import type { EventBatch } from '../index.ts';
import type { Ending } from './ending.ts';
import { ReaderGone } from './output.ts';
import type { SymbolNames } from './symbols.ts';

/** Bytes of text that are made before they are written: what a slow reader can make us hold. */
const CHUNK_BYTES = 1 << 18;

/** Events that never pause, written to a file, must not keep signals and timers from being heard. */
const PAUSE_MILLISECONDS = 20;

/** Takes the lines. */
interface Sink {
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Writes events until the session has no more, `number` of them are written, or nobody reads them; the
 * last two ask `ending`.
 * @param symbols names what is of type `symbol`, where something may be.
 * @throws what the session or the sink throws, but for {@link ReaderGone}.
 */
export async function deliver(
  batches: AsyncIterable<EventBatch>,
  sink: Sink,
  options: { readonly format: 'text' | 'json'; readonly number?: number },
  ending: Pick<Ending, 'ask'>,
  symbols?: SymbolNames,
): Promise<void> {
  const exporter =
    options.format === 'json'
      ? new JsonExporter()
      : new TextExporter((pid, address) => symbols?.find(pid, address));
  const lines = new LineBuffer(CHUNK_BYTES * 2);
  let left = options.number ?? Infinity;
  let paused = performance.now();
  const flush = async (): Promise<void> => {
    await sink.write(lines.written());
    lines.clear();
    if (performance.now() - paused < PAUSE_MILLISECONDS) return;
    await eventLoop();
    paused = performance.now();
  };
  try {
    for await (const batch of batches) {
      await symbols?.learn(batch);
      for (const event of batch) {
        exporter.format(event, lines);
        if (--left === 0) break;
        if (lines.length >= CHUNK_BYTES) await flush();
      }
      if (lines.length > 0) await flush();
      if (left === 0) {
        ending.ask({ kind: 'count' });
        return;
      }
    }
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error;
    ending.ask({ kind: 'reader-gone' });
  }
}
