//! Formats on the wire, and nothing else: no IO, no clock, no runtime.
