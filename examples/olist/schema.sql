CREATE SCHEMA cpstn;
SET LOCAL search_path = cpstn;
CREATE TABLE olist_customers (
    customer_id uuid PRIMARY KEY,
    customer_unique_id varchar(33) NOT NULL,
    customer_zip_code_prefix char(5),
    customer_city varchar(50),
    customer_state char(2)
);
-- No key, and rows repeat.
CREATE TABLE olist_geolocation (
    geolocation_zip_code_prefix char(5),
    geolocation_lat numeric(17, 14),
    geolocation_lng numeric(17, 14),
    geolocation_city varchar(50),
    geolocation_state char(2)
);
CREATE TABLE olist_sellers (
    seller_id uuid PRIMARY KEY,
    seller_zip_code_prefix char(5),
    seller_city varchar(50),
    seller_state char(2)
);
CREATE TABLE product_category_name_translation (
    category_name varchar(50),
    category_name_english varchar(50)
);
CREATE TABLE olist_products (
    product_id uuid PRIMARY KEY,
    product_category_name varchar(50),
    product_name_length smallint,
    product_description_length smallint,
    product_photos_qty smallint,
    product_weight_g integer,
    product_length_cm numeric(5, 2),
    product_height_cm numeric(5, 2),
    product_width_cm numeric(5, 2)
);
CREATE TABLE olist_orders (
    order_id uuid PRIMARY KEY,
    customer_id uuid,
    order_status varchar(20),
    order_purchase_timestamp timestamp,
    order_approved_at timestamp,
    order_delivered_carrier_date timestamp,
    order_delivered_customer_date timestamp,
    order_estimated_delivery_date date
);
CREATE TABLE olist_order_items (
    order_id uuid,
    order_item_id smallint,
    product_id uuid,
    seller_id uuid,
    shipping_limit_date timestamp,
    price numeric(7, 2),
    freight_value numeric(6, 2)
);
CREATE TABLE olist_order_payments (
    order_id uuid,
    payment_sequential smallint,
    payment_type varchar(13),
    payment_installments smallint,
    payment_value numeric(8, 2)
);
CREATE TABLE olist_order_reviews (
    review_id uuid,
    order_id uuid,
    review_score smallint,
    review_comment_title varchar(255),
    review_comment_message text,
    review_creation_date timestamp,
    review_answer_timestamp timestamp,
    PRIMARY KEY (review_id, order_id)
);
