-- The sample shop: 13 tables in the shape of Northwind, in an order in which each finds what it refers to.

CREATE TABLE categories (
    category_id smallint NOT NULL CONSTRAINT pk_categories PRIMARY KEY,
    category_name character varying(15) NOT NULL,
    description text,
    picture bytea
);

CREATE TABLE customer_demographics (
    customer_type_id bpchar NOT NULL CONSTRAINT pk_customer_demographics PRIMARY KEY,
    customer_desc text
);

CREATE TABLE customers (
    customer_id bpchar NOT NULL CONSTRAINT pk_customers PRIMARY KEY,
    company_name character varying(40) NOT NULL,
    contact_name character varying(30),
    contact_title character varying(30),
    address character varying(60),
    city character varying(15),
    region character varying(15),
    postal_code character varying(10),
    country character varying(15),
    phone character varying(24),
    fax character varying(24)
);

CREATE TABLE customer_customer_demo (
    customer_id bpchar NOT NULL CONSTRAINT fk_customer_customer_demo_customers REFERENCES customers,
    customer_type_id bpchar NOT NULL
        CONSTRAINT fk_customer_customer_demo_customer_demographics REFERENCES customer_demographics,
    CONSTRAINT pk_customer_customer_demo PRIMARY KEY (customer_id, customer_type_id)
);

CREATE TABLE employees (
    employee_id smallint NOT NULL CONSTRAINT pk_employees PRIMARY KEY,
    last_name character varying(20) NOT NULL,
    first_name character varying(10) NOT NULL,
    title character varying(30),
    title_of_courtesy character varying(25),
    birth_date date,
    hire_date date,
    address character varying(60),
    city character varying(15),
    region character varying(15),
    postal_code character varying(10),
    country character varying(15),
    home_phone character varying(24),
    extension character varying(4),
    photo bytea,
    notes text,
    reports_to smallint CONSTRAINT fk_employees_employees REFERENCES employees,
    photo_path character varying(255)
);

CREATE TABLE region (
    region_id smallint NOT NULL CONSTRAINT pk_region PRIMARY KEY,
    region_description bpchar NOT NULL
);

CREATE TABLE territories (
    territory_id character varying(20) NOT NULL CONSTRAINT pk_territories PRIMARY KEY,
    territory_description bpchar NOT NULL,
    region_id smallint NOT NULL CONSTRAINT fk_territories_region REFERENCES region
);

CREATE TABLE employee_territories (
    employee_id smallint NOT NULL CONSTRAINT fk_employee_territories_employees REFERENCES employees,
    territory_id character varying(20) NOT NULL
        CONSTRAINT fk_employee_territories_territories REFERENCES territories,
    CONSTRAINT pk_employee_territories PRIMARY KEY (employee_id, territory_id)
);

CREATE TABLE suppliers (
    supplier_id smallint NOT NULL CONSTRAINT pk_suppliers PRIMARY KEY,
    company_name character varying(40) NOT NULL,
    contact_name character varying(30),
    contact_title character varying(30),
    address character varying(60),
    city character varying(15),
    region character varying(15),
    postal_code character varying(10),
    country character varying(15),
    phone character varying(24),
    fax character varying(24),
    homepage text
);

CREATE TABLE products (
    product_id smallint NOT NULL CONSTRAINT pk_products PRIMARY KEY,
    product_name character varying(40) NOT NULL,
    supplier_id smallint CONSTRAINT fk_products_suppliers REFERENCES suppliers,
    category_id smallint CONSTRAINT fk_products_categories REFERENCES categories,
    quantity_per_unit character varying(20),
    unit_price real,
    units_in_stock smallint,
    units_on_order smallint,
    reorder_level smallint,
    discontinued integer NOT NULL
);

CREATE TABLE shippers (
    shipper_id smallint NOT NULL CONSTRAINT pk_shippers PRIMARY KEY,
    company_name character varying(40) NOT NULL,
    phone character varying(24)
);

CREATE TABLE us_states (
    state_id smallint NOT NULL CONSTRAINT pk_usstates PRIMARY KEY,
    state_name character varying(100),
    state_abbr character varying(2),
    state_region character varying(50)
);

CREATE TABLE orders (
    order_id smallint NOT NULL CONSTRAINT pk_orders PRIMARY KEY,
    customer_id bpchar CONSTRAINT fk_orders_customers REFERENCES customers,
    employee_id smallint CONSTRAINT fk_orders_employees REFERENCES employees,
    order_date date,
    required_date date,
    shipped_date date,
    ship_via smallint CONSTRAINT fk_orders_shippers REFERENCES shippers,
    freight real,
    ship_name character varying(40),
    ship_address character varying(60),
    ship_city character varying(15),
    ship_region character varying(15),
    ship_postal_code character varying(10),
    ship_country character varying(15)
);
