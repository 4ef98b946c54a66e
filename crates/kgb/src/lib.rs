//! kgb
