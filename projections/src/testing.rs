//! Facts made by hand, and tables as text, for tests.
