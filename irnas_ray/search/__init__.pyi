from .bilevel import BilevelSearch as BilevelSearch
from .bilevel import bilevel_search as bilevel_search
from .decodings import Decoding as Decoding
from .health import Health as Health
from .report import SearchReport as SearchReport
from .report import SearchResult as SearchResult
from .single_path import SinglePathSearch as SinglePathSearch
