"""Settings, dates, sources, errors and text: what every other package may use."""
