//! Tests of the service over its requests, each with a database of its own.
