from .bilevel import BilevelSearch as BilevelSearch
from .bilevel import SearchReport as SearchReport
from .bilevel import SearchResult as SearchResult
from .bilevel import bilevel_search as bilevel_search
from .health import Health as Health
