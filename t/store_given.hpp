// store_given -- promises of stores: what is given out to be delivered, to whom, and what becomes of it.
#pragma once

#include <set>

#include "store_place.hpp"

namespace test::stores {

inline const std::vector<Promise> given_promises{
    {"what is due longest is given out first, and no more than asked for",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto now = queue_now();
         for (int i : {3, 0, 4, 1, 2}) store->put(letter("m" + std::to_string(i), now + i * 10s));
         MUST(store->claim("example.org", now - 1ms, 10).empty());
         MUST(store->claim("example.org", now + 1h, 0).empty());
         MUST(ids(store->claim("example.org", now + 1h, 2)) == std::vector<std::string>{"m0", "m1"});
         MUST(store->claim("example.org", now + 19s, 10).empty());
         MUST(ids(store->claim("example.org", now + 30s, 10)) == std::vector<std::string>{"m2", "m3"});
         MUST(ids(store->claim("example.org", now + 40s, 10)) == std::vector<std::string>{"m4"});
         MUST(store->claim("example.org", now + 1h, 10).empty());
     }},
    {"recipients of one message are given out together, and their number is limited, not that of messages",
     [](StorePlace& place) {
         const auto store = leading(place);
         for (const char* id : {"a", "b"}) {
             auto mail = letter(id);
             mail.to = recipients(5, "example.org");
             store->put(mail);
         }
         std::vector<std::string> seen;
         for (std::size_t limit : {7, 2, 100}) {
             const auto tasks = store->claim("example.org", queue_now(), limit);
             MUST(recipients_in(tasks) == std::min<std::size_t>(limit, 10 - seen.size()));
             auto which = ids(tasks);
             std::ranges::sort(which);
             MUST(std::ranges::adjacent_find(which) == which.end());
             for (const auto& task : tasks)
                 for (const auto& to : task.to) seen.push_back(task.id + to.recipient.local);
         }
         std::ranges::sort(seen);
         MUST(seen.size() == 10 && std::ranges::adjacent_find(seen) == seen.end());
     }},
    {"of a mail to many as many come together as are asked for, and each once",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto now = queue_now();
         auto one = letter("one"), many = letter("many"), held = letter("held");
         one.due = now - 2s;
         many.due = now - 1s;
         many.to = recipients(25, "example.org");
         many.to.push_back(Recipient("else@example.com"));
         held.due = now - 1s;
         held.held = true;
         for (const auto* mail : {&one, &many, &held}) store->put(*mail);
         auto tasks = store->claim("example.org", now, 1, 10);
         MUST(ids(tasks) == std::vector<std::string>{"one"});  // it has no others
         tasks = store->claim("example.org", now, 2, 10);
         MUST(only(tasks).id == "many" && recipients_in(tasks) == 10);
         const auto first = numbers(tasks.front());
         const auto more = store->claim("example.org", now, 12, 10);  // it is more than that by itself
         MUST(recipients_in(more) == 12);
         const auto second = numbers(only(more));
         const auto rest = numbers(only(store->claim("example.org", now, 1, 100)));
         std::set<std::uint32_t> all(first.begin(), first.end());
         all.insert(second.begin(), second.end());
         all.insert(rest.begin(), rest.end());
         MUST(rest.size() == 3 && all.size() == 25 && !all.contains(25));
         MUST(store->claim("example.org", now, 10, 10).empty());
         MUST(finish(*store, tasks.front()) && finish(*store, more.front()));
         MUST(recipients_in(claim(*store, "example.com")) == 1);
     }},
    {"a domain's mail is given out without that of others, and its case means nothing",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@Example.ORG", "b@example.com", "c@EXAMPLE.org", "postmaster", "d@sub.example.org",
                                 "e@[IPv6:2001:DB8::1]", "PostMaster"}));
         MUST(names(store->domains(std::nullopt, 10)) ==
              std::vector<std::string>{"", "[ipv6:2001:db8::1]", "example.com", "example.org", "sub.example.org"});
         MUST(numbers(only(claim(*store, "example.org"))) == std::vector<std::uint32_t>{0, 2});
         MUST(numbers(only(claim(*store, ""))) == std::vector<std::uint32_t>{3, 6});
         MUST(only(claim(*store, "[ipv6:2001:db8::1]")).to.front().recipient.domain == "[IPv6:2001:DB8::1]");
         MUST(claim(*store, "org").empty());
         MUST(claim(*store, "%").empty());
         MUST(numbers(only(claim(*store, "sub.example.org"))) == std::vector<std::uint32_t>{4});
         MUST(names(store->domains(std::nullopt, 10)) == std::vector<std::string>{"example.com"});
     }},
    {"domains come in the order of their octets, by pages, each with the time when its first mail is due",
     [](StorePlace& place) {
         const auto store = leading(place);
         const std::vector<std::string> order{"",          "a-b.example", "a.example",       "ab.example",
                                              "b.example", "z.example",   "\xc3\xbc.example"};
         const auto now = queue_now();
         for (std::size_t i = order.size(); i-- > 0;) {
             const auto to = order[i].empty() ? "postmaster" : "x@" + order[i];
             store->put(letter("later" + std::to_string(i), now + 1h, to));
             store->put(letter("first" + std::to_string(i), now + std::chrono::seconds(i), to));
             store->put(letter("last" + std::to_string(i), now + 2h, to));
         }
         MUST(names(store->domains(std::nullopt, 100)) == order);
         MUST(store->domains(std::nullopt, 0).empty());
         std::vector<QueueDomain> paged;
         std::optional<std::string> after;
         while (paged.size() <= order.size()) {
             const auto page = store->domains(after, 2);
             MUST(page.size() <= 2);
             if (page.empty()) break;
             paged.insert(paged.end(), page.begin(), page.end());
             after = page.back().name;
         }
         MUST(names(paged) == order);
         for (std::size_t i = 0; i < order.size(); ++i) {
             MUST(paged[i].due == now + std::chrono::seconds(i));
             MUST(store->due(order[i]) == paged[i].due);
         }
         MUST(names(store->domains("", 1)) == std::vector<std::string>{"a-b.example"});
         MUST(names(store->domains("aa", 2)) == std::vector<std::string>{"ab.example", "b.example"});
         MUST(!store->due("aa"));
         // What is given out counts no more.
         MUST(store->claim("z.example", now + 1min, 10).size() == 1);
         MUST(store->due("z.example") == now + 1h);
         MUST(store->claim("z.example", now + 3h, 10).size() == 2);
         MUST(!store->due("z.example"));
         MUST(names(store->domains("b.example", 9)) == std::vector<std::string>{"\xc3\xbc.example"});
     }},
    {"what is given out is given to nobody else until it comes back",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@example.org", "b@example.org"}));
         const auto task = only(claim(*store));
         MUST(claim(*store).empty());
         const auto other = place.open();
         if (other->lead()) MUST(claim(*other).empty());
         MUST(!place.one_leader() || !other->lead());
         MUST(store->flush("m") == 0);
         MUST(claim(*store).empty());
         store->give_back(task);
         const auto again = only(claim(*store));
         MUST(again.to.size() == 2);
         MUST(again.message == task.message);
         MUST(again.to.front().attempts == 0);
     }},
    {"what is given back is due when it was, and only that comes back",
     [](StorePlace& place) {
         const auto store = leading(place);
         auto mail = letter("m");
         mail.to = recipients(4, "example.org");
         store->put(mail);
         const auto first = only(claim(*store, "example.org", 2)), second = only(claim(*store, "example.org", 2));
         store->give_back(first);
         MUST(store->due("example.org") == mail.due);
         auto again = only(claim(*store));
         MUST(numbers(again) == numbers(first));
         // A task can be split by whoever has it.
         auto half = again;
         half.to.pop_back();
         store->give_back(half);
         MUST(numbers(only(claim(*store))) == numbers(half));
         MUST(finish(*store, second));
         MUST(store->item("m")->to.size() == 2);
     }},
    {"a recipient that is done leaves the queue, the last one with the message",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@example.org", "b@example.org", "c@example.com"}));
         store->put(letter("other"));
         const auto task = claim(*store).front();
         MUST(task.id == "m");
         MUST(record(*store, task, {done(1)}));
         MUST(store->item("m")->to.size() == 2);
         MUST(store->item("m")->to.front().recipient.local == "a");
         MUST(store->item("m")->to.front().in_flight);
         // Who is left is still out, and the text with him.
         MUST(claim(*store).empty());
         MUST(store->text(task).view() == letter("m").text.view());
         MUST(record(*store, task, {done(0)}));
         MUST(store->item("m")->to.size() == 1);
         MUST(finish(*store, only(claim(*store, "example.com"))));
         MUST(!store->item("m"));
         MUST(!store->look("m"));
         MUST(ids(store->items(0, 10)) == std::vector<std::string>{"other"});
         MUST(store->cancel("m") == Cancelled::not_found);
         MUST(!store->hold("m"));
         MUST(store->stats().messages == 1);
         MUST(store->stats().octets == letter("other").text.size());
         MUST(names(store->domains(std::nullopt, 10)).empty());
     }},
    {"a recipient that is deferred waits till then, with what was said of him",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto now = queue_now();
         store->put(letter("m", {"a@example.org", "b@example.org"}));
         auto task = only(claim(*store));
         auto verdict = later(0, now + 1h);
         verdict.reply = {450, "4.2.1", "One \xff\nTwo"};
         verdict.host = "mx.example.org [192.0.2.1]:25";
         verdict.warned = true;
         MUST(record(*store, task, {verdict, later(1, now + 2h)}));
         MUST(claim(*store).empty());
         MUST(store->due("example.org") == now + 1h);
         auto seen = store->item("m")->to.front();
         MUST(seen.attempts == 1 && !seen.in_flight && seen.due == now + 1h);
         MUST(seen.last == verdict.reply);
         MUST(seen.host == verdict.host);
         task = only(store->claim("example.org", now + 1h, 10));
         MUST(task.to.size() == 1);
         MUST(task.to.front().attempts == 1);
         MUST(task.to.front().warned);
         verdict.attempt = false;
         verdict.due = now + 3h;
         verdict.reply = {421, "", ""};
         verdict.host = "";
         MUST(record(*store, task, {verdict}));
         seen = store->item("m")->to.front();
         MUST(seen.attempts == 1 && seen.due == now + 3h);
         MUST(seen.last == verdict.reply);
         MUST(seen.host.empty());
         task = only(store->claim("example.org", now + 3h, 10));
         MUST(task.to.size() == 2);
         for (const auto& to : task.to) MUST(to.attempts == 1 && to.warned == (to.number == 0));
     }},
    {"of a long reply the beginning is kept",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m"));
         auto task = only(claim(*store));
         for (std::size_t size : {1023, 1024, 1025, 100'000})
             for (const auto& text : {std::string(size, 'x'), binary(size)}) {
                 auto verdict = later(0, queue_now() - 1s);
                 verdict.reply.text = text;
                 MUST(record(*store, task, {verdict}));
                 const auto kept = store->item("m")->to.front().last;
                 MUST(kept.code == 451 && kept.status == "4.3.0");
                 MUST(kept.text.size() <= 1024);
                 MUST(kept.text.size() >= std::min<std::size_t>(size, 1000));
                 MUST(text.starts_with(kept.text));
                 task = only(claim(*store));
             }
         MUST(task.to.front().attempts == 8);
     }},
    {"what is no longer out can't be recorded, and nothing changes",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m", {"a@example.org", "b@example.org"}));
         const auto task = only(claim(*store));
         MUST(record(*store, task, {done(0)}));
         MUST(!record(*store, task, {done(1), later(0, queue_now())}, {letter("no")}));
         MUST(store->item("m")->to.size() == 1);
         MUST(store->item("m")->to.front().attempts == 0);
         store->give_back(task);
         MUST(!record(*store, task, {done(1)}, {letter("no")}));
         MUST(store->item("m")->to.size() == 1);
         MUST(finish(*store, only(claim(*store))));
         MUST(!finish(*store, task));
         MUST(!record(*store, task, {later(1, queue_now())}, {letter("no")}));
         MUST(store->items(0, 10).empty());
         store->give_back(task);
         MUST(claim(*store).empty());
     }},
    {"notices come into the queue with what they are about",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m"));
         const auto task = only(claim(*store));
         auto bounce = letter("bounce", {"anna@example.net"});
         bounce.from = Sender("");
         bounce.text = Message(binary(300'000));
         auto held = letter("held", {"anna@example.net"});
         held.held = true;
         MUST(record(*store, task, {done(0)}, {bounce, held}));
         MUST(ids(store->items(0, 10)) == std::vector<std::string>{"bounce", "held"});
         MUST(store->item("bounce")->message > task.message);
         const auto given = only(claim(*store, "example.net"));
         MUST(given.id == "bounce");
         MUST(given.from.null() && !given.from.unset());
         comes_out(*store, given, bounce.head, binary(300'000));
     }},
    {"with a notice that is refused nothing is recorded",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("m"));
         store->put(letter("there", {"x@example.com"}));
         const auto task = only(claim(*store));
         const auto nobody = letter("fine", std::vector<std::string>());
         for (const auto& bad : {letter("there"), letter("a b"), letter("good"), nobody, letter("m")}) {
             MUST(refused([&] { record(*store, task, {done(0)}, {letter("good"), bad}); }));
             MUST(ids(store->items(0, 10)) == std::vector<std::string>{"m", "there"});
             MUST(store->item("m")->to.front().in_flight);
             MUST(store->item("m")->to.front().attempts == 0);
             MUST(store->item("m")->to.front().last.code == 0);
             MUST(claim(*store).empty());
         }
         MUST(record(*store, task, {done(0)}, {letter("good")}));
         MUST(ids(store->items(0, 10)) == std::vector<std::string>{"there", "good"});
     }},
    {"what is due in more than a week, by whichever clock, is due at once",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto now = queue_now();
         store->put(letter("week", now + longest_wait - 1s));
         store->put(letter("far", now + longest_wait + 1h));
         const auto far = only(store->claim("example.org", now, 10));
         MUST(far.id == "far");
         // The clock goes back by eight days.
         MUST(only(store->claim("example.org", now - 24h * 8, 10)).id == "week");
         MUST(defer(*store, far, now + 24h * 365));
         MUST(only(store->claim("example.org", now, 10)).id == "far");
         // Whoever looks for what is next must not wait for it.
         store->put(letter("x", now + 24h * 365, "x@example.com"));
         const auto due = store->due("example.com");
         MUST(due && (*due <= queue_now() || *due > queue_now() + longest_wait));
     }},
    {"mail that is not held never waits for ever",
     [](StorePlace& place) {
         const auto store = leading(place);
         const bool no = refused([&] { store->put(letter("m", never_due)); });
         MUST(no || only(claim(*store)).id == "m");
     }},
    {"a hundred messages of different times are given out in order, by pages",
     [](StorePlace& place) {
         const auto store = leading(place);
         const auto now = queue_now();
         std::vector<int> order(100);
         for (int i = 0; i < 100; ++i) order[std::size_t(i)] = i;
         std::ranges::shuffle(order, std::mt19937(7));
         for (int i : order) store->put(letter("m" + std::to_string(i), now - 100s + i * 1s));
         for (int i = 0; i < 100;) {
             const auto page = store->claim("example.org", now, 7);
             MUST(!page.empty());
             for (const auto& task : page) MUST(task.id == "m" + std::to_string(i++));
         }
     }},
};

}  // namespace test::stores
