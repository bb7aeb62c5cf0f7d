"""The local exchange: Bybit and Binance faces over our own matching, with faults on demand."""
