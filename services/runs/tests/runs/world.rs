//! Both roles on a log in memory and a database of their own.
