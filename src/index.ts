/** Trapline: dynamic probes for live Linux programs. The public API, every export explicit. */

export { TraplineError } from './base/errors.ts';
export type { ErrorCode, ErrorDetails, SourcePosition } from './base/errors.ts';
export { attach, endIdle, prepare, spawn } from './session/open.ts';
export { Session } from './session/session.ts';
export { explain } from './session/reports/explained.ts';
export { listFunctions } from './session/files/list.ts';
export { parseProbes } from './session/probes/probe-list.ts';
export type { ListedProbe } from './session/probes/probe-list.ts';
export { clean, cleanKernel, kernelStatus, status } from './session/reports/maintenance.ts';
export { doctor } from './session/reports/doctor.ts';
export type { DoctorReport, Finding } from './session/reports/doctor.ts';
export type {
  CleanReport,
  DescribedProbe,
  HeldProgram,
  HeldSession,
  HeldSite,
  KernelCleanReport,
  KernelStatus,
  ProcessStatus,
} from './session/reports/held.ts';
export type {
  AddedProbe,
  Bill,
  EventSummary,
  ExplainedCode,
  ExplainedInstruction,
  ExplainRequest,
  Explanation,
  CommonFile,
  FunctionList,
  ListedFunction,
  ListRequest,
  ProbedSite,
  ProbeRequest,
  RefusedSite,
  SessionOptions,
  SpawnOptions,
  Stops,
  Summary,
  TargetEnd,
  TargetInfo,
  TargetSelection,
} from './session/types.ts';
export type { SiteMethod } from './process/control-rows.ts';
export type { EngineName } from './probe/engine.ts';
export type { ProcessFacts, TaskFilter } from './probe/task-filter.ts';
export type { EventBatch } from './events/batch.ts';
export type { EventView } from './events/view.ts';
export { FAULT } from './events/event.ts';
export type { EventValue, SingleValue, TraceEvent } from './events/event.ts';
