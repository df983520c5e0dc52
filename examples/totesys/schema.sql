-- Dates of agreements and payments are text, as in the original.
CREATE TABLE department (
    department_id integer PRIMARY KEY,
    department_name varchar NOT NULL,
    location varchar,
    manager varchar,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE currency (
    currency_id integer PRIMARY KEY,
    currency_code varchar(3) NOT NULL,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE payment_type (
    payment_type_id integer PRIMARY KEY,
    payment_type_name varchar NOT NULL,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE address (
    address_id integer PRIMARY KEY,
    address_line_1 varchar NOT NULL,
    address_line_2 varchar,
    district varchar,
    city varchar NOT NULL,
    postal_code varchar NOT NULL,
    country varchar NOT NULL,
    phone varchar NOT NULL,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE design (
    design_id integer PRIMARY KEY,
    created_at timestamp NOT NULL,
    design_name varchar NOT NULL,
    file_location varchar NOT NULL,
    file_name varchar NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE staff (
    staff_id integer PRIMARY KEY,
    first_name varchar NOT NULL,
    last_name varchar NOT NULL,
    department_id integer NOT NULL REFERENCES department,
    email_address varchar NOT NULL,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE counterparty (
    counterparty_id integer PRIMARY KEY,
    counterparty_legal_name varchar NOT NULL,
    legal_address_id integer NOT NULL REFERENCES address,
    commercial_contact varchar,
    delivery_contact varchar,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE sales_order (
    sales_order_id integer PRIMARY KEY,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL,
    design_id integer NOT NULL REFERENCES design,
    staff_id integer NOT NULL REFERENCES staff,
    counterparty_id integer NOT NULL REFERENCES counterparty,
    units_sold integer NOT NULL,
    unit_price numeric(10, 2) NOT NULL,
    currency_id integer NOT NULL REFERENCES currency,
    agreed_delivery_date varchar NOT NULL,
    agreed_payment_date varchar NOT NULL,
    agreed_delivery_location_id integer NOT NULL REFERENCES address
);
CREATE TABLE purchase_order (
    purchase_order_id integer PRIMARY KEY,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL,
    staff_id integer NOT NULL REFERENCES staff,
    counterparty_id integer NOT NULL REFERENCES counterparty,
    item_code varchar NOT NULL,
    item_quantity integer NOT NULL,
    item_unit_price numeric NOT NULL,
    currency_id integer NOT NULL REFERENCES currency,
    agreed_delivery_date varchar NOT NULL,
    agreed_payment_date varchar NOT NULL,
    agreed_delivery_location_id integer NOT NULL REFERENCES address
);
CREATE TABLE transaction (
    transaction_id integer PRIMARY KEY,
    transaction_type varchar NOT NULL,
    sales_order_id integer REFERENCES sales_order,
    purchase_order_id integer REFERENCES purchase_order,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL
);
CREATE TABLE payment (
    payment_id integer PRIMARY KEY,
    created_at timestamp NOT NULL,
    last_updated timestamp NOT NULL,
    transaction_id integer NOT NULL REFERENCES transaction,
    counterparty_id integer NOT NULL REFERENCES counterparty,
    payment_amount numeric NOT NULL,
    currency_id integer NOT NULL REFERENCES currency,
    payment_type_id integer NOT NULL REFERENCES payment_type,
    paid boolean NOT NULL,
    payment_date varchar NOT NULL,
    company_ac_number integer NOT NULL,
    counterparty_ac_number integer NOT NULL
);
