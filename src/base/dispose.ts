/** Scoped ownership for Node 20, which knows `Symbol.dispose` but has no DisposableStack. */

/**
 * Owns other resources and disposes them in reverse order, once. If several fail, the first error
 * is thrown with the others in its `cause` chain's place as an AggregateError.
 */
export class DisposableStack implements Disposable {
  readonly #actions: (() => void)[] = [];
  #disposed = false;

  /** Takes ownership of `resource` and returns it. */
  use<T extends Disposable>(resource: T): T {
    this.defer(() => resource[Symbol.dispose]());
    return resource;
  }

  /** Runs `action` at disposal. */
  defer(action: () => void): void {
    if (this.#disposed) throw new ReferenceError('the stack is disposed already');
    this.#actions.push(action);
  }

  /** Hands everything owned to a new stack; this one owns nothing afterwards. */
  move(): DisposableStack {
    const next = new DisposableStack();
    next.#actions.push(...this.#actions.splice(0));
    return next;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    const errors: unknown[] = [];
    for (let action = this.#actions.pop(); action !== undefined; action = this.#actions.pop()) {
      try {
        action();
      } catch (error) {
        errors.push(error); // thrown below, once everything else has been let go
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, 'several resources failed to close');
  }
}
