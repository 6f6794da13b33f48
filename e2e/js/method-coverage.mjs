// Notes which methods of a client's builders are called, so that a test can say which never were.

// All prototypes of a value up to Object's.
function prototypes(value) {
  const found = [];
  for (let p = Object.getPrototypeOf(value); p && p !== Object.prototype; p = Object.getPrototypeOf(p)) found.push(p);
  return found;
}

// Wraps every method of the given objects' classes. Gives a function that lists those that nobody called yet; a method
// that a class inherits and overrides counts as one.
export function watch(objects) {
  const known = new Set(), called = new Set();
  for (const prototype of new Set(objects.flatMap(prototypes))) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      if (name === "constructor" || typeof value !== "function") continue;
      known.add(name);
      prototype[name] = function (...args) {
        called.add(name);
        return value.apply(this, args);
      };
    }
  }
  return () => [...known].filter((name) => !called.has(name)).sort();
}
