//! Which roles does one person never hold together?
