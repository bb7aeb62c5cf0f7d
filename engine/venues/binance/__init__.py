"""Binance Spot and USD-M Futures. Pure codecs and two thin clients (`spot`, `usdm`) over them.

Facts from Binance's own pages ("REST API", "WebSocket API", "User Data Streams", "Error Codes", "Filters"), as of
2026-10. Where they differ from what `exchangeInfo` says at run time, `exchangeInfo` wins.
"""
