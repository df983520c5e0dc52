-- One row a postal code: the middle of its places, and the most frequent spelling of its city.
select
    geolocation_zip_code_prefix as zip_code_prefix,
    avg(geolocation_lat)::numeric(17, 14) as latitude,
    avg(geolocation_lng)::numeric(17, 14) as longitude,
    mode() within group (order by geolocation_city) as city,
    mode() within group (order by geolocation_state) as state
from {{ landed('olist_geolocation') }}
where geolocation_zip_code_prefix is not null
group by geolocation_zip_code_prefix
