// Tests of Poco.hpp: a session on a Poco socket.
#include <Poco/Channel.h>
#include <Poco/Net/HTTPClientSession.h>
#include <Poco/Net/HTTPRequest.h>
#include <Poco/Net/HTTPResponse.h>
#include <Poco/Net/ServerSocket.h>
#include <Poco/Net/StreamSocket.h>
#include <Poco/StreamCopier.h>
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <Net/SMTP/Poco.hpp>
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <string>
#include <vector>

using namespace Net::SMTP;

TEST_CASE("a session runs on a copy of a Poco socket's descriptor, and the socket stays whose it was") {
    Poco::Net::ServerSocket listening(Poco::Net::SocketAddress("127.0.0.1", 0));
    Poco::Net::StreamSocket near(listening.address());
    auto far = listening.acceptConnection();
    near.sendBytes("HELO me\r\nQUIT\r\n", 15);
    {
        auto c = connection(far);
        CHECK(c.fd() != far.impl()->sockfd());
        CHECK(c.peer().port == near.address().port());
        Server::Client client(std::move(c), {.hostname = "poco.test"});
        CHECK(!client.process());
    }
    near.setReceiveTimeout(Poco::Timespan(5, 0));
    std::string heard;
    char octets[512];
    for (int n; (n = near.receiveBytes(octets, sizeof octets)) > 0;) {
        heard.append(octets, static_cast<std::size_t>(n));
        if (heard.find("221") != heard.npos) break;
    }
    CHECK(heard.starts_with("220 poco.test"));
    CHECK(heard.find("\r\n221 2.0.0 ") != heard.npos);
    // The session closed its own copy only.
    CHECK(fcntl(far.impl()->sockfd(), F_GETFD) >= 0);
}

TEST_CASE("a Poco socket without a connection is refused") {
    Poco::Net::StreamSocket socket(Poco::Net::SocketAddress::IPv4);
    CHECK_THROWS_AS(connection(socket), std::system_error);
}

namespace {

struct Kept : Poco::Channel {
    void log(const Poco::Message& message) override { messages.push_back(message); }
    std::vector<Poco::Message> messages;
};

}  // namespace

TEST_CASE("a log's lines go to a Poco logger as they are, with its priority, and not below its level") {
    const Poco::AutoPtr<Kept> kept(new Kept);
    auto& logger = Poco::Logger::create("smtp.test", kept, Poco::Message::PRIO_INFORMATION);
    const auto write = lines_to(logger);
    write("100% %s \\x0A");
    lines_to(logger, Poco::Message::PRIO_DEBUG)("not this");
    Server server("127.0.0.1", 0);
    SessionLog(lines_to(logger)).listen(server.pipeline());
    Poco::Net::StreamSocket near(Poco::Net::SocketAddress("127.0.0.1", server.port()));
    near.sendBytes("QUIT\r\n", 6);
    {
        Server::Client client(server.accept());
        CHECK(!client.process());
    }
    REQUIRE(kept->messages.size() == 2);
    CHECK(kept->messages[0].getText() == "100% %s \\x0A");
    CHECK(kept->messages[0].getSource() == "smtp.test");
    CHECK(kept->messages[0].getPriority() == Poco::Message::PRIO_INFORMATION);
    CHECK(kept->messages[1].getText().find(" event=session ") != std::string::npos);
    Poco::Logger::destroy("smtp.test");
}

TEST_CASE("counters are read by HTTP, and nothing else is") {
    Server server({"127.0.0.1:0"});
    const Counters counters;
    counters.listen(server.pipeline());
    const auto http = metrics(counters, "127.0.0.1:0", "mx");
    const auto ask = [&](const std::string& method, std::string& body) {
        Poco::Net::HTTPClientSession session("127.0.0.1", http->port());
        session.setTimeout(Poco::Timespan(10, 0));
        Poco::Net::HTTPRequest request(method, "/metrics");
        session.sendRequest(request);
        Poco::Net::HTTPResponse response;
        auto& stream = session.receiveResponse(response);
        body.clear();
        Poco::StreamCopier::copyToString(stream, body);
        CHECK(response.getContentType() == "text/plain; version=0.0.4");
        return int(response.getStatus());
    };
    std::string body;
    CHECK(ask("GET", body) == 200);
    CHECK(body.find("\nmx_sessions_total 0\n") != body.npos);
    {
        Poco::Net::StreamSocket near(Poco::Net::SocketAddress("127.0.0.1", server.port()));
        near.sendBytes("QUIT\r\n", 6);
        Server::Client client(server.accept());
        CHECK(!client.process());
    }
    CHECK(ask("GET", body) == 200);
    CHECK(body.find("\nmx_sessions_total 1\n") != body.npos);
    CHECK(ask("DELETE", body) == 405);
    CHECK(body.empty());
}
