/** What the main thread does when sources of events come and go, whoever finds that: walks, or who holds processes. */

import { messageOf } from '../../base/errors.ts';
import type { Collector } from './collector.ts';
import type { KnownProbes } from '../probes/known-probes.ts';
import type { FollowListener } from '../following/notices.ts';
import type { SourceHandle } from '../protocol.ts';
import type { TargetWatch } from '../targets/target-watch.ts';
import type { SessionOptions, TargetInfo } from '../types.ts';

/** The parts of a session that are told. */
export interface Listening {
  readonly collector: Collector;
  readonly watch: TargetWatch;
  readonly probes: KnownProbes;
  /** Those that are targets now. */
  readonly targets: TargetInfo[];
  readonly onTarget: SessionOptions['onTarget'];
  readonly onProblem: SessionOptions['onProblem'];
  /** See {@link FollowListener}. */
  readonly extending: FollowListener['extending'];
  /** Told of a source to which nobody writes any more. */
  readonly onAbandoned: () => void;
  /** Told of sources that are new. */
  readonly onSources: (sources: readonly SourceHandle[]) => void;
  /** Told what ends the search for more processes, for people. */
  readonly failed: (problem: string) => void;
}

/** Tells the parts of a session. */
export function listenFor(session: Listening): FollowListener {
  const { collector, watch, probes, targets, onTarget, onProblem, failed } = session;
  const { extending, onAbandoned, onSources } = session;
  return {
    extending,
    extended: (reply) => {
      for (const added of reply.added) {
        collector.add(added);
        onSources(added.sources);
        for (const problem of probes.update(added.probe)) onProblem?.(problem);
      }
      watch.add(reply.processorTimes);
      targets.push(...reply.targets);
      for (const target of reply.targets) onTarget?.(target);
    },
    ended: ({ source, pid }) => {
      collector.markEnded(source);
      watch.forget(pid);
      const at = targets.findIndex((target) => target.pid === pid);
      if (at >= 0) targets.splice(at, 1);
    },
    abandoned: (source) => {
      collector.abandon(source);
      onAbandoned();
    },
    failed: (error) => {
      const problem = `what came later was not all found: ${messageOf(error)}`;
      failed(problem);
      onProblem?.(problem);
    },
    said: (text) => onProblem?.(text),
    alone: () => watch.noteAlone(),
  };
}
