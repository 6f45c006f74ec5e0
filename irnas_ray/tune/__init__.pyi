from .population import RatePopulation as RatePopulation
from .schedulers import ConfigurationHalving as ConfigurationHalving
from .searcher import StudySearch as StudySearch
